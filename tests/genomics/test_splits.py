from __future__ import annotations

import numpy as np
import pytest
from labelled import make_records, mutate, random_dna, reverse_complement

from genomics.datasets.records import LabelledSequences
from genomics.intervals import Interval
from genomics.leaks import check_leaks
from genomics.splits import SplitConfig, assign, split_method
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def on_chromosomes(rng: np.random.Generator, chromosomes: int, each: int = 30) -> LabelledSequences:
    intervals = [
        Interval(f"chr{c + 1}", 1000 * i, 1000 * i + 60) for c in range(chromosomes) for i in range(each)
    ]
    sequences = [random_dna(rng, 60) for _ in intervals]
    return make_records(sequences, rng.integers(0, 2, len(intervals)), intervals=intervals)


def test_auto_prefers_column_then_chromosomes_then_blocks_then_similarity(rng: np.random.Generator) -> None:
    many, few = on_chromosomes(rng, 6), on_chromosomes(rng, 2)
    column = make_records(["A", "C", "G"], [0, 1, 0], split=["train", "test", "validation"])
    assert split_method(column, SplitConfig()) == "column"
    assert split_method(many, SplitConfig()) == "chromosome"
    assert split_method(few, SplitConfig()) == "block"
    assert split_method(few, SplitConfig(test=("chr1",))) == "chromosome"
    assert split_method(make_records(["A"], [0]), SplitConfig()) == "similarity"


def test_named_chromosomes_are_tested_on_in_either_spelling(rng: np.random.Generator) -> None:
    records = on_chromosomes(rng, 6)
    parts, explanation = assign(records, SplitConfig(test=("2", "chr3"), validation=("chr5",)))
    where = np.array([interval.chrom for interval in records.intervals or []])
    assert set(where[parts == "test"]) == {"chr2", "chr3"}
    assert set(where[parts == "validation"]) == {"chr5"}
    assert "tested on chr2, chr3" in explanation


def test_validation_chromosomes_are_chosen_when_only_test_is_named(rng: np.random.Generator) -> None:
    records = on_chromosomes(rng, 10)
    parts, _ = assign(records, SplitConfig(test=("chr1",), validation_fraction=0.2))
    where = np.array([interval.chrom for interval in records.intervals or []])
    held_out = {part: set(where[parts == part]) for part in PARTS}
    assert held_out["test"] == {"chr1"}
    assert len(held_out["validation"]) == 2
    assert not held_out["validation"] & held_out["train"]


def test_one_chromosome_under_two_names_stays_together(rng: np.random.Generator) -> None:
    records = on_chromosomes(rng, 8)
    mixed = [
        Interval(i.chrom if number % 2 else i.chrom.removeprefix("chr"), i.start, i.end)
        for number, i in enumerate(records.intervals or [])
    ]
    parts, _ = assign(
        make_records([random_dna(rng, 60) for _ in mixed], records.labels, intervals=mixed), SplitConfig()
    )
    for chromosome in {i.chrom.removeprefix("chr") for i in mixed}:
        assert len({parts[n] for n, i in enumerate(mixed) if i.chrom.removeprefix("chr") == chromosome}) == 1


def test_blocks_leave_out_what_straddles_a_border(rng: np.random.Generator) -> None:
    genome = random_dna(rng, 40_000)
    intervals = [Interval("chr", start, start + 200) for start in range(0, 39_800, 100)]
    records = make_records(
        [genome[i.start : i.end] for i in intervals], np.arange(len(intervals)) % 2, intervals=intervals
    )
    parts, explanation = assign(records, SplitConfig(block_size=2000))
    assert check_leaks(records, parts).ok
    assert "Left out" in explanation
    assert 0 < np.sum(parts == "") < 0.1 * len(parts)
    kept_all, _ = assign(records, SplitConfig(block_size=2000, leave_out=False))
    assert not check_leaks(records, kept_all).ok
    assert not (kept_all == "").any()


def test_copies_on_another_chromosome_leave_training_not_the_test_part(rng: np.random.Generator) -> None:
    records = on_chromosomes(rng, 6)
    sequences = [random_dna(rng, 60) for _ in records.names]
    sequences[100] = reverse_complement(sequences[0])  # chr4 and chr1
    copied = make_records(sequences, records.labels, intervals=records.intervals)
    parts, explanation = assign(copied, SplitConfig(test=("chr1",), validation=("chr2",)))
    assert parts[0] == "test"
    assert parts[100] == ""
    assert explanation.endswith("held-out sequence: 1.")


def test_similarity_keeps_families_together(rng: np.random.Generator) -> None:
    sequences, labels = [], []
    for family in range(60):
        founder = random_dna(rng, 150)
        for _ in range(4):
            copy = mutate(rng, founder, 3)
            sequences.append(reverse_complement(copy) if rng.random() < 0.5 else copy)
            labels.append(family % 2)
    records = make_records(sequences, labels)
    parts, explanation = assign(records, SplitConfig())
    for family in range(60):
        assert len(set(parts[4 * family : 4 * family + 4])) == 1
    assert "60 clusters, the largest of 4" in explanation
    assert check_leaks(records, parts).ok
    assert {part: int(np.sum(parts == part)) for part in PARTS} == {
        "train": 180,
        "validation": 24,
        "test": 36,
    }
    scattered, _ = assign(records, SplitConfig(by="random"))
    assert not check_leaks(records, scattered).ok


def test_the_same_seed_gives_the_same_split(rng: np.random.Generator) -> None:
    records = make_records([random_dna(rng, 50) for _ in range(100)], rng.integers(0, 2, 100))
    first, again, other = (assign(records, SplitConfig(seed=seed))[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_column_is_taken_as_it_is(rng: np.random.Generator) -> None:
    given = ["train", "train", "validation", "validation", "test", "test"]
    records = make_records(["ACGT"] * 6, [0, 1] * 3, split=given)
    assert assign(records, SplitConfig())[0].tolist() == given


def test_column_without_validation_gets_one_from_training(rng: np.random.Generator) -> None:
    given = ["train"] * 80 + ["test"] * 20
    records = make_records([random_dna(rng, 60) for _ in given], rng.integers(0, 2, 100), split=given)
    parts, explanation = assign(records, SplitConfig())
    assert (parts[80:] == "test").all()
    assert np.sum(parts == "validation") == 8
    assert "8 training sequences were set aside" in explanation


def test_multilabel_parts_have_every_label(rng: np.random.Generator) -> None:
    labels = (rng.random((300, 3)) < [0.5, 0.2, 0.03]).astype(np.float32)
    records = make_records(
        [random_dna(rng, 40) for _ in labels], labels, task="multilabel", classes=("a", "b", "rare")
    )
    parts, _ = assign(records, SplitConfig())
    for part in PARTS:
        assert labels[parts == part].any(0).all()


def test_regression_parts_cover_the_range(rng: np.random.Generator) -> None:
    targets = np.sort(rng.normal(size=(200, 1)), axis=0).astype(np.float32)
    records = make_records([random_dna(rng, 40) for _ in targets], targets, task="regression", classes=("y",))
    parts, _ = assign(records, SplitConfig())
    for part in PARTS:
        low, high = np.quantile(targets[parts == part], [0.25, 0.75])
        assert low < 0 < high


def test_a_constant_target_can_be_split(rng: np.random.Generator) -> None:
    records = make_records(
        [random_dna(rng, 40) for _ in range(50)],
        np.ones((50, 1), np.float32),
        task="regression",
        classes=("y",),
    )
    assert set(assign(records, SplitConfig())[0]) == set(PARTS)


@pytest.mark.parametrize(
    ("records", "config", "message"),
    [
        (make_records(["A", "C"], [0, 1]), SplitConfig(by="chromosome"), "no genome coordinates"),
        (make_records(["A", "C"], [0, 1]), SplitConfig(by="column"), "no split column"),
        (
            make_records(["A", "C"], [0, 1], split=["train", "dev set"]),
            SplitConfig(),
            "got 'dev set' for seq1",
        ),
        (make_records(["A", "C"], [0, 1], split=["train", "train"]), SplitConfig(), "marked test"),
        (
            make_records(["A", "C", "G"], [0, 1, 0], split=["train", "test", "validation"]),
            SplitConfig(),
            "class 'pos' has no sequence in the train part",
        ),
        (make_records(["AC" * 50] * 20, [0, 1] * 10), SplitConfig(), "no sequence is left for"),
        (
            make_records(["A"], [0], intervals=[Interval("chr1", 0, 1)]),
            SplitConfig(test=("chr7",)),
            "no sequence lies on 'chr7'",
        ),
        (
            make_records(["A"], [0], intervals=[Interval("chr1", 0, 1)]),
            SplitConfig(test=("chr1",)),
            "nothing is left for training",
        ),
    ],
)
def test_what_cannot_be_split_is_said(records: LabelledSequences, config: SplitConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign(records, config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "chromosomes"}, "split.by: expected one of auto"),
        ({"test_fraction": 0}, "split.test_fraction"),
        ({"test_fraction": 0.6, "validation_fraction": 0.4}, "sum below 1"),
        ({"similarity": 0}, "split.similarity"),
        ({"block_size": 0}, "split.block_size"),
        ({"by": "random", "test": ["chr1"]}, "name chromosomes"),
        ({"test": ["chr1"], "validation": ["1"]}, "split: 1 is named both in test and in validation"),
        ({"test": ["chrX"], "validation": ["chr1", "chrX"]}, "split: chrX is named both in"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SplitConfig(**options)  # type: ignore[arg-type]


def test_lists_from_yaml_become_tuples() -> None:
    assert SplitConfig(test=["chr8", "chr9"]).test == ("chr8", "chr9")  # type: ignore[arg-type]
