from __future__ import annotations

import numpy as np
import pytest
from interval_cases import scattered, told_by_length
from labelled import make_records, random_dna

from genomics.coordinates import Coordinates
from genomics.interval_sets import LabelledIntervals
from genomics.intervals import Interval
from genomics.shortcuts import FOLDS, measure_shortcuts


def intervals_of(
    rows: list[tuple[str, int, int, str]], labels: np.ndarray, split: np.ndarray | None = None
) -> LabelledIntervals:
    chrom, start, end, strand = zip(*rows, strict=True)
    places = Coordinates.from_columns(chrom, start, end, [word or "." for word in strand])
    return LabelledIntervals([""] * len(rows), places, labels, ("a", "b", "c")[: labels.max() + 1], split)


def test_a_table_of_lengths_is_scored_as_by_hand() -> None:
    lengths = np.array([10] * 10 + [20] * 10 + [10] * 4 + [20] * 6)
    labels = np.array([0] * 8 + [1] * 2 + [1] * 9 + [0] * 1 + [0, 0, 0, 1] + [1, 1, 1, 1, 0, 0])
    split = np.array(["train"] * 20 + ["test"] * 10)
    rows = [("c", 100 * i, 100 * i + int(n), "") for i, n in enumerate(lengths)]
    found = measure_shortcuts(intervals_of(rows, labels), split)["length"]
    # 10 means 0 and 20 means 1: 3 of 4 and 4 of 6 are right. Training has more 1 (11 of 20) than 0.
    assert found.accuracy == pytest.approx(0.7)
    assert found.majority == pytest.approx(0.5)
    assert found.tested_on == 10
    assert not found.cross_validated
    # Truth 5 and 5; decided 0 for 4, of which 3 right: (3 * 4 - 1 * 2) / sqrt(4 * 6 * 5 * 5).
    assert found.skill.value == pytest.approx((3 * 4 - 1 * 2) / np.sqrt(4 * 6 * 5 * 5))
    assert found.skill.low < found.skill.value < found.skill.high


def test_rare_lengths_are_read_by_range(rng: np.random.Generator) -> None:
    labels = np.arange(600) % 2
    # No length comes twice as often as a row of its own needs, but long ones are all of class 1.
    lengths = rng.permutation(3000)[:600] + 100 + 3000 * labels
    rows = [("c", 10_000 * i, 10_000 * i + int(n), "") for i, n in enumerate(lengths)]
    found = measure_shortcuts(intervals_of(rows, labels))["length"]
    assert found.accuracy is not None
    assert found.accuracy > 0.95
    assert found.cross_validated
    assert found.tested_on == 600


def test_chance_stays_chance(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 2, 4000)
    rows = scattered(rng, 4000)
    for name, found in measure_shortcuts(intervals_of(rows, labels)).items():
        assert abs(found.skill.value) < 0.06, name


def test_a_grid_of_starts_is_found(rng: np.random.Generator) -> None:
    labels = np.arange(1000) % 2
    starts = np.arange(1000) * 1000 + np.where(labels, rng.integers(0, 10, 1000), rng.choice([0, 9], 1000))
    rows = [("c", int(start), int(start) + 333, "+") for start in starts]
    found = measure_shortcuts(intervals_of(rows, labels))
    # Only the fifth of class 1 that starts at 0 or 9 by chance is taken for class 0.
    assert found["grid"].accuracy == pytest.approx(0.9, abs=0.03)
    assert abs(found["length"].skill.value) < 0.1


def test_chromosomes_that_training_never_saw_say_what_is_commonest(rng: np.random.Generator) -> None:
    labels = np.array([0, 0, 1] * 100)
    rows = [(f"chr{1 + i % 3}", 1000 * i, 1000 * i + 50, "+") for i in range(300)]
    split = np.array(["train"] * 240 + ["test"] * 60)
    known = measure_shortcuts(intervals_of(rows, labels), split)["chromosome"]
    assert known.accuracy == 1
    rows[240:] = [("chr9", start, end, strand) for _, start, end, strand in rows[240:]]
    unknown = measure_shortcuts(intervals_of(rows, labels), split)["chromosome"]
    assert unknown.accuracy == unknown.majority == pytest.approx(2 / 3)
    assert unknown.skill.value == 0


def test_three_classes_by_length(rng: np.random.Generator) -> None:
    parts = told_by_length(rng)
    rows, labels, split = [], [], []
    for part, classes in parts.items():
        for number, some in enumerate(classes.values()):
            rows += some
            labels += [number] * len(some)
            split += [part] * len(some)
    found = measure_shortcuts(intervals_of(rows, np.array(labels)), np.array(split))["length"]
    assert found.accuracy is not None
    assert found.majority == pytest.approx(1 / 3)
    assert found.accuracy > 0.85


def test_regression_and_multilabel(rng: np.random.Generator) -> None:
    gc = rng.uniform(0.2, 0.8, 500)
    sequences = [random_dna(rng, 200, share) for share in gc]
    targets = np.stack([gc, rng.normal(size=500)], 1).astype(np.float32)
    found = measure_shortcuts(make_records(sequences, targets, task="regression", classes=("gc", "noise")))
    assert found["gc"].accuracy is None
    # The mean over both targets, of which one is nearly told and one is not.
    assert found["gc"].skill.value == pytest.approx(0.5, abs=0.1)
    assert abs(found["ambiguity"].skill.value) < 0.1 or np.isnan(found["ambiguity"].skill.value)
    labels = np.stack([gc > 0.5, rng.random(500) > 0.5], 1).astype(np.float32)
    found = measure_shortcuts(make_records(sequences, labels, task="multilabel", classes=("high", "noise")))
    assert found["gc"].accuracy == pytest.approx(0.72, abs=0.06)
    assert found["gc"].skill.value == pytest.approx(0.45, abs=0.1)


def test_too_few_sequences_have_no_score() -> None:
    records = make_records(["ACGT"] * (2 * FOLDS - 1), [0, 1] * (FOLDS - 1) + [0])
    assert measure_shortcuts(records) == {}
    one = make_records(
        ["ACGT"], [0], intervals=[Interval("c", 1, 5)], classes=("only", "other"), split=["train"]
    )
    assert measure_shortcuts(one, np.array(["train"])) == {}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
