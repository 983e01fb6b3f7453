from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomics.intervals import Interval
from genomics.windows import Window, WindowConfig, WindowSampler, evaluation_candidates
from seqmamba.errors import UserError


@st.composite
def genomes(draw: st.DrawFn) -> list[list[Interval]]:
    """One to three genomes, each with stretches on one to three chromosomes that do not touch."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        stretches = []
        for chrom in range(draw(st.integers(1, 3))):
            position = 0
            for _ in range(draw(st.integers(1, 4))):
                start = position + draw(st.integers(1, 50))
                position = start + draw(st.integers(1, 200))
                stretches.append(Interval(f"chr{chrom}", start, position))
        found.append(stretches)
    return found


def inside(window: Window, stretches: list[Interval]) -> bool:
    return any(s.chrom == window.chrom and s.start <= window.start < window.end <= s.end for s in stretches)


@settings(max_examples=200)
@given(genomes(), st.integers(2, 300), st.sampled_from(["uniform", "size"]), st.integers(0, 2**40))
def test_windows_never_leave_their_stretch(
    regions: list[list[Interval]], length: int, weighting: str, seed: int
) -> None:
    sampler = WindowSampler(regions, weighting, seed)  # type: ignore[arg-type]
    for number in range(5):
        for window in islice(sampler.draws(3, number, length), 4):
            stretches = regions[window.genome]
            assert inside(window, stretches)
            home = next(s for s in stretches if inside(window, [s]))
            assert window.end - window.start == min(length, len(home))
            assert 0 <= window.key < 2**62


@settings(max_examples=100)
@given(genomes(), st.integers(2, 300), st.integers(0, 2**40))
def test_fixed_lists_stay_inside_and_do_not_overlap(
    regions: list[list[Interval]], length: int, seed: int
) -> None:
    windows = list(evaluation_candidates(regions[0], 0, length, seed))
    assert len(windows) == sum(max(1, len(s) // length) for s in regions[0])
    assert all(inside(window, regions[0]) for window in windows)
    spans = sorted((w.chrom, w.start, w.end) for w in windows)
    for (chrom, _, end), (other, start, _) in pairwise(spans):
        assert chrom != other or end <= start
    assert windows == list(evaluation_candidates(regions[0], 0, length, seed))


def test_a_window_is_a_function_of_seed_epoch_and_number() -> None:
    regions = [[Interval("chr1", 0, 10_000)], [Interval("chr1", 0, 5_000)]]

    def drawn(seed: int, epoch: int, number: int) -> Window:
        return next(WindowSampler(regions, "uniform", seed).draws(epoch, number, 100))

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    assert len({drawn(*case) for case in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)]}) == 4


@pytest.mark.parametrize(
    ("weighting", "share", "chromosome"), [("uniform", 1 / 2, 1 / 4), ("size", 0.9, 0.1)]
)
def test_genomes_and_chromosomes_have_their_shares(weighting: str, share: float, chromosome: float) -> None:
    regions = [
        [Interval("long", 0, 8_000), Interval("short", 0, 1_000)],
        [Interval("only", 0, 400), Interval("only", 500, 1_100)],
    ]
    sampler = WindowSampler(regions, weighting, 0)  # type: ignore[arg-type]
    windows = [next(sampler.draws(0, number, 10)) for number in range(4_000)]
    assert np.mean([w.genome == 0 for w in windows]) == pytest.approx(share, abs=0.04)
    assert np.mean([w.chrom == "short" for w in windows]) == pytest.approx(chromosome, abs=0.04)
    starts = [w.start for w in windows if w.chrom == "only"]
    assert np.mean([start < 400 for start in starts]) == pytest.approx(0.4, abs=0.08)


def test_the_length_doubles_at_the_same_number_of_bases() -> None:
    config = WindowConfig(
        length=1024, tokens_per_batch=4096, steps_per_epoch=5, first_length=128, epochs_per_length=2
    )
    lengths = [config.length_in(epoch) for epoch in range(9)]
    assert lengths == [128, 128, 256, 256, 512, 512, 1024, 1024, 1024]
    assert {config.length_in(e) * config.batch_size_in(e) for e in range(9)} == {4096}
    assert WindowConfig(length=1024).length_in(0) == 1024


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 1000, "tokens_per_batch": 4096}, "expected a multiple of length 1000, got 4096"),
        ({"first_length": 300}, "expected length 1024 divided by a power of two, got 300"),
        ({"first_length": 2048}, "expected length 1024 divided by a power of two, got 2048"),
        ({"weighting": "even"}, "windows.weighting: expected one of uniform, size, got 'even'"),
        ({"steps_per_epoch": 0}, "windows.steps_per_epoch: expected a whole number >= 1, got 0"),
    ],
)
def test_refuses_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        WindowConfig(**options)  # type: ignore[arg-type]


def test_a_genome_without_a_training_part_is_refused() -> None:
    with pytest.raises(UserError, match="every genome needs a part to train on"):
        WindowSampler([[]], "size", 0)


@settings(max_examples=100)
@given(genomes(), st.integers(2, 90), st.integers(0, 2**40))
def test_a_stream_reads_stretches_to_their_ends(
    regions: list[list[Interval]], length: int, seed: int
) -> None:
    sampler = WindowSampler(regions, "size", seed)
    read = sampler.stream(2, 5, 20, length)
    assert read == sampler.stream(2, 5, 20, length)
    assert read[:7] == sampler.stream(2, 5, 7, length)
    assert len(read) == 20
    assert read[0][1]
    for (before, _), (window, fresh) in pairwise(read):
        home = next(s for s in regions[before.genome] if inside(before, [s]))
        assert inside(window, regions[window.genome])
        assert fresh == (before.end == home.end)
        if not fresh:
            assert (window.genome, window.chrom, window.start) == (
                before.genome,
                before.chrom,
                before.end - 1,
            )
            assert window.end == min(window.start + length, home.end)
