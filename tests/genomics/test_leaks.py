from __future__ import annotations

import json

import numpy as np
import pytest
from labelled import make_records, mutate, random_dna, reverse_complement

from genomics.intervals import Interval
from genomics.leaks import Leak, check_leaks, giveaways


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_each_kind_of_leak_names_its_offenders(rng: np.random.Generator) -> None:
    train = [random_dna(rng, 200) for _ in range(3)]
    test = [train[0], reverse_complement(train[1]), mutate(rng, train[2], 4), random_dna(rng, 200)]
    report = check_leaks(
        make_records(train + test, [0, 1, 0, 1, 0, 1, 0]), np.array(["train"] * 3 + ["test"] * 4)
    )
    assert report.exact == [Leak("seq3", "test", "seq0", "train", 1.0)]
    assert report.reverse_complement == [Leak("seq4", "test", "seq1", "train", 1.0)]
    assert [leak[:4] for leak in report.similar] == [("seq5", "test", "seq2", "train")]
    assert 0.5 <= report.similar[0].value < 1
    assert report.counts == {
        "exact": 1,
        "reverse_complement": 1,
        "overlaps": 0,
        "similar": 1,
        "affected": 3,
        "held_out": 4,
    }
    assert not report.ok
    assert report.serious
    assert report.summary().startswith("Leak: 3 of 4 held-out sequences (75.0%)")
    assert "seq3 (test) and seq0 (train)" in report.summary()


def test_a_clean_split_is_said_to_be_clean(rng: np.random.Generator) -> None:
    records = make_records([random_dna(rng, 100) for _ in range(20)], [0, 1] * 10)
    report = check_leaks(records, np.array(["train"] * 10 + ["validation"] * 5 + ["test"] * 5))
    assert report.ok
    assert not report.serious
    assert report.summary().startswith("No leak: none of the 10 held-out")


def test_copies_inside_a_part_and_left_out_sequences_do_not_count(rng: np.random.Generator) -> None:
    sequence = random_dna(rng, 100)
    records = make_records([sequence] * 3 + [random_dna(rng, 100)], [0, 0, 0, 1])
    assert check_leaks(records, np.array(["train", "train", "", "test"])).ok


def test_test_is_compared_with_validation_too(rng: np.random.Generator) -> None:
    records = make_records(["ACGTTACCAGA"] * 2 + ["C"], [0, 0, 1])
    report = check_leaks(records, np.array(["validation", "test", "train"]))
    assert report.exact == [Leak("seq1", "test", "seq0", "validation", 1.0)]


def test_very_short_and_ambiguous_copies_are_found() -> None:
    records = make_records(["AC", "GT", "NNNN", "NNNN"], [0, 1, 0, 1])
    report = check_leaks(records, np.array(["train", "test", "train", "test"]))
    assert report.counts["reverse_complement"] == 1
    assert report.counts["exact"] == 1


def test_a_palindrome_counts_once(rng: np.random.Generator) -> None:
    half = random_dna(rng, 30)
    palindrome = half + reverse_complement(half)
    report = check_leaks(make_records([palindrome] * 2, [0, 1]), np.array(["train", "test"]))
    assert report.counts["exact"] == 1
    assert report.counts["reverse_complement"] == 0


def test_overlaps_give_the_bases_shared(rng: np.random.Generator) -> None:
    intervals = [
        Interval("chr1", 0, 100),
        Interval("1", 90, 190),
        Interval("chr1", 190, 290),
        Interval("chr2", 0, 100),
    ]
    records = make_records([random_dna(rng, 100) for _ in intervals], [0, 1, 0, 1], intervals=intervals)
    report = check_leaks(records, np.array(["train", "test", "train", "test"]))
    assert report.overlaps == [Leak("seq1", "test", "seq0", "train", 10.0)]


def test_many_offenders_are_counted_though_not_listed(rng: np.random.Generator) -> None:
    sequences = [random_dna(rng, 30) for _ in range(150)]
    report = check_leaks(
        make_records(sequences * 2, [0, 1] * 150), np.array(["train"] * 150 + ["test"] * 150)
    )
    assert report.counts["exact"] == 150
    assert len(report.exact) == 100


def test_one_in_two_hundred_is_not_serious(rng: np.random.Generator) -> None:
    sequences = [random_dna(rng, 30) for _ in range(201)]
    sequences[200] = sequences[0]
    report = check_leaks(make_records(sequences, [0] * 201), np.array(["train"] + ["test"] * 200))
    assert not report.ok
    assert not report.serious


def test_without_the_giveaways_nothing_is_found(rng: np.random.Generator) -> None:
    founders = [random_dna(rng, 120) for _ in range(40)]
    sequences = [mutate(rng, founders[i % 40], int(rng.integers(0, 12))) for i in range(200)]
    parts = rng.choice(["train", "validation", "test"], 200)
    records = make_records(sequences, rng.integers(0, 2, 200))
    assert check_leaks(records, parts).serious
    found = giveaways(records, parts)
    assert not found[parts == "test"].any()
    parts[found] = ""
    assert check_leaks(records, parts).ok


def test_the_report_survives_json(rng: np.random.Generator) -> None:
    report = check_leaks(make_records(["ACGT"] * 2, [0, 1]), np.array(["train", "test"]))
    stored = json.loads(json.dumps(report.as_dict()))
    assert stored["exact"] == [["seq1", "test", "seq0", "train", 1.0]]
    assert stored["ok"] is False
    assert stored["counts"]["affected"] == 1
