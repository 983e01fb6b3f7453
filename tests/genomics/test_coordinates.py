from __future__ import annotations

import numpy as np
import pytest

from genomics.coordinates import Coordinates, most_overlapping
from genomics.copies import interval_twins
from genomics.intervals import Interval


def brute_force(intervals: list[Interval], level: np.ndarray) -> list[int]:
    """Bases shared with the best partner of a lower level."""
    best = []
    for i, here in enumerate(intervals):
        shared = [
            min(here.end, other.end) - max(here.start, other.start)
            for j, other in enumerate(intervals)
            if 0 <= level[j] < level[i] and other.chrom == here.chrom
        ]
        best.append(max([0, *shared]))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_overlap_is_that_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    intervals = []
    for _ in range(120):
        start = int(rng.integers(0, 2000))
        # Long intervals that hold many short ones are what a sweep over starts gets wrong.
        length = int(rng.integers(1, 40)) if rng.random() < 0.8 else int(rng.integers(200, 1500))
        intervals.append(Interval(f"chr{rng.integers(1, 3)}", start, start + length))
    level = rng.integers(-1, 3, 120)
    match, shared = most_overlapping(Coordinates.of(intervals), level)
    assert shared.tolist() == brute_force(intervals, level)
    for i in range(120):
        if match[i] < 0:
            assert shared[i] == 0
            continue
        other = intervals[match[i]]
        assert other.chrom == intervals[i].chrom
        assert 0 <= level[match[i]] < level[i]
        assert min(intervals[i].end, other.end) - max(intervals[i].start, other.start) == shared[i]


def test_neighbours_do_not_overlap_and_chr_is_no_part_of_a_name() -> None:
    intervals = [Interval("chr1", 0, 10), Interval("1", 10, 20), Interval("1", 9, 12), Interval("chrM", 0, 9)]
    places = Coordinates.of([*intervals, Interval("MT", 8, 30)])
    match, shared = most_overlapping(places, np.array([0, 1, 1, 0, 1]))
    assert match.tolist() == [-1, -1, 0, -1, 3]
    assert shared.tolist() == [0, 0, 1, 0, 1]
    assert [places[i] for i in (0, 2)] == [Interval("chr1", 0, 10), Interval("chr1", 9, 12)]


def test_one_place_on_two_strands_is_a_reverse_complement() -> None:
    places = Coordinates.of(
        [Interval("c", 5, 9, strand) for strand in "+-."] + [Interval("c", 5, 10), Interval("d", 5, 9)]
    )
    twins = interval_twins(places)
    assert twins.own[0] == twins.own[2] != twins.own[1]
    assert twins.own[1] == twins.other[0]
    assert len(set(twins.groups().tolist())) == 3


def test_a_quarter_of_a_million_intervals_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 240_000_000, 250_000)
    n = len(start)
    places = Coordinates(
        tuple("abcd"), rng.integers(0, 4, n), start, start + rng.integers(50, 900, n), np.zeros(n, np.int8)
    )
    level = rng.integers(0, 3, n)
    match, shared = most_overlapping(places, level)
    some = np.flatnonzero(match >= 0)
    assert (shared[some] > 0).all()
    # Starts closer than half the two lengths on both sides: 950 bases of 240 Mb for each of the 20,833 of a
    # lower level on the chromosome; level 1 has one such level, level 2 has two.
    expected = np.mean([0, *(1 - np.exp(-950 / 240e6 * 20_833 * levels) for levels in (1, 2))])
    assert len(some) / n == pytest.approx(expected, rel=0.03)
