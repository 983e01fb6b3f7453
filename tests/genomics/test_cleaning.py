from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from interval_cases import overlapping_negatives, repeated_positives, write_parts
from labelled import make_records, mutate, random_dna, reverse_complement

from genomics.audit_inputs import folder_parts, read_parts
from genomics.cleaning import clean, write_clean
from genomics.datasets.table import from_table
from genomics.interval_sets import LabelledIntervals
from genomics.intervals import Interval
from genomics.leaks import check_leaks
from seqmamba.errors import UserError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_each_reason_names_what_is_to_blame(rng: np.random.Generator) -> None:
    a, b, c, d, e, f, g = (random_dna(rng, 200) for _ in range(7))
    rows = [
        ("train", a, 0, ("exact", 10)),
        ("train", reverse_complement(b), 0, ("reverse_complement", 11)),
        ("train", mutate(rng, c, 4), 1, ("similar", 12)),
        ("train", d, 0, ("conflict", 5)),
        ("train", e, 1, None),
        ("train", reverse_complement(d), 1, ("conflict", 3)),
        ("train", e, 1, ("repeat", 4)),
        ("", f, 0, ("left out", -1)),
        ("validation", g, 0, None),
        ("validation", reverse_complement(g), 0, ("repeat", 8)),
        ("test", a, 0, None),
        ("test", b, 0, None),
        ("test", c, 1, None),
        ("test", c, 0, None),  # a conflict inside the test part is not for the cleaner to decide
    ]
    parts = np.array([row[0] for row in rows])
    records = make_records([row[1] for row in rows], [row[2] for row in rows])
    cleaning = clean(records, parts)
    assert cleaning.reasons == {i: row[3] for i, row in enumerate(rows) if row[3] is not None}
    assert cleaning.kept.tolist() == [row[3] is None for row in rows]
    text = cleaning.text(records, parts)
    assert "removed 8 of 14 rows" in text
    assert "test: 4 of 4 rows stay (all)" in text
    assert "of class neg only 0 of 3" in text


@pytest.mark.parametrize("seed", range(5))
def test_no_test_row_goes_and_no_leak_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    founders = [random_dna(rng, 120) for _ in range(60)]
    sequences = [mutate(rng, founders[i % 60], int(rng.integers(0, 9))) for i in range(200)]
    places = [Interval("c", int(start), int(start) + 120) for start in rng.integers(0, 30_000, 200)]
    parts = rng.choice(["train", "validation", "test", ""], 200)
    records = make_records(sequences, rng.integers(0, 2, 200), intervals=places)
    assert check_leaks(records, parts).serious
    cleaning = clean(records, parts)
    assert cleaning.kept[parts == "test"].all()
    left = np.where(cleaning.kept, parts, "")
    assert check_leaks(records, left).ok
    assert 0 < np.sum(left == "train") < np.sum(parts == "train")


def test_sequences_are_written_as_every_verb_reads_them(rng: np.random.Generator, tmp_path: Path) -> None:
    sequences = [random_dna(rng, 90 + i) for i in range(12)]
    sequences[1] = sequences[9]
    places = [Interval(f"chr{i}", 5, 95 + i, "+-"[i % 2]) for i in range(12)]
    parts = np.array((["train"] * 5 + ["test"]) * 2)
    parts[[1, 9]] = "train", "test"
    records = make_records(sequences, np.arange(12) % 2, intervals=places)
    write_clean(records, parts, clean(records, parts), tmp_path / "out")
    again = from_table(tmp_path / "out" / "sequences.fa", tmp_path / "out" / "labels.tsv")
    kept = [i for i in range(12) if i != 1]
    assert again.names == [f"seq{i}" for i in kept]
    assert again.intervals == [places[i] for i in kept]
    assert [tokens.tobytes() for tokens in again.tokens] == [records.tokens[i].tobytes() for i in kept]
    assert again.split is not None
    assert again.split.tolist() == parts[kept].tolist()
    assert [again.classes[i] for i in again.labels] == [records.classes[i % 2] for i in kept]
    lines = (tmp_path / "out" / "removed.tsv").read_text().splitlines()
    (row,) = csv.DictReader(lines, delimiter="\t")
    assert row == {
        "name": "seq1",
        "split": "train",
        "source": "test.fa:3",
        "reason": "copies a sequence of a later part",
        "because_of": "seq9",
        "its_split": "test",
    }


def test_targets_and_several_labels_survive(rng: np.random.Generator, tmp_path: Path) -> None:
    sequences = [random_dna(rng, 60) for _ in range(8)]
    targets = rng.normal(size=(8, 2)).astype(np.float32)
    parts = np.array(["train"] * 5 + ["test"] * 3)
    for task, labels in (("regression", targets), ("multilabel", (targets > 0).astype(np.float32))):
        records = make_records(sequences, labels, task=task, classes=("x", "y"))
        write_clean(records, parts, clean(records, parts), tmp_path / task)
        again = from_table(tmp_path / task / "sequences.fa", tmp_path / task / "labels.tsv", records.task)
        assert again.classes == ("x", "y")
        assert np.array_equal(again.labels, labels)


@pytest.mark.parametrize(("make", "removed"), [(repeated_positives, 75), (overlapping_negatives, 99)])
def test_intervals_are_written_as_they_came(
    make: object, removed: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    write_parts(tmp_path / "set", make(rng))  # type: ignore[operator]
    records = read_parts(folder_parts(tmp_path / "set"))
    assert isinstance(records, LabelledIntervals)
    assert records.split is not None
    cleaning = clean(records, records.split)
    write_clean(records, records.split, cleaning, tmp_path / "out")
    again = read_parts(folder_parts(tmp_path / "out"))
    assert isinstance(again, LabelledIntervals)
    assert again.split is not None
    assert len(again) == len(records) - removed
    assert check_leaks(again, again.split).ok

    def tested(some: LabelledIntervals) -> list[tuple[str, str, int]]:
        rows = np.flatnonzero(some.split == "test").tolist()
        return sorted((some.ids[i], some.names[i], int(some.labels[i])) for i in rows)

    assert tested(again) == tested(records)


def test_an_existing_folder_is_not_replaced(rng: np.random.Generator, tmp_path: Path) -> None:
    records = make_records([random_dna(rng, 30) for _ in range(4)], [0, 1, 0, 1])
    parts = np.array(["train", "train", "test", "test"])
    (tmp_path / "out").mkdir()
    write_clean(records, parts, clean(records, parts), tmp_path / "out")  # an empty one is fine
    with pytest.raises(UserError, match="exists already"):
        write_clean(records, parts, clean(records, parts), tmp_path / "out")
