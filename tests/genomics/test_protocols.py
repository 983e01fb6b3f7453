from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import make_records, mutate, random_dna, reverse_complement

from genomics.benchmarks import find_benchmark
from genomics.benchmarks.benchmark import Benchmark
from genomics.datasets.records import LabelledSequences
from genomics.protocols import QUIRKS, DivisionConfig, copies_of_held_out, divide, draw_tenth
from seqmamba.errors import UserError

GUE = find_benchmark("gue/mouse4")  # validation is given
GB = find_benchmark("genomic_benchmarks/human_enhancers_cohn")  # a tenth of the training file
NT = find_benchmark("nucleotide_transformer/H3")


def sequences(count: int, seed: int = 0, length: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    return [random_dna(rng, length) for _ in range(count)]


def records_of(split: list[str] | None, letters: list[str] | None = None, n: int = 0) -> LabelledSequences:
    letters = letters or sequences(n or len(split or ()))
    return make_records(letters, [i % 2 for i in range(len(letters))], split=split)


def divided(
    records: LabelledSequences, benchmark: Benchmark, protocol: str, **options: object
) -> dict[str, set[str]]:
    config = DivisionConfig(protocol, **options)  # type: ignore[arg-type]
    division = divide(records, benchmark, config)
    assert division.records.split is not None
    assert (division.records.split == division.assignment).all()
    return {
        part: {division.records.names[i] for i in np.flatnonzero(division.assignment == part)}
        for part in ("train", "validation", "test")
    }


def test_the_tenth_is_that_of_torch_for_every_size() -> None:
    for n in range(10, 60):
        for seed in (1, 5):
            generator = torch.Generator().manual_seed(seed)
            chosen, rest = torch.utils.data.random_split(range(n), [0.1, 0.9], generator=generator)
            mask = draw_tenth(n, "tenth", seed)
            assert np.flatnonzero(mask).tolist() == sorted(chosen.indices)
            assert np.flatnonzero(~mask).tolist() == sorted(rest.indices)


def test_the_tenth_of_scikit_learn_has_its_documented_size_and_order() -> None:
    # train_test_split(range(23), test_size=0.1, random_state=1) returns [20, 17, 3] for the test part.
    assert np.flatnonzero(draw_tenth(23, "sklearn_tenth", 1)).tolist() == [3, 17, 20]


def test_the_papers_protocol_keeps_copies_and_draws_a_tenth_by_seed() -> None:
    letters = sequences(50)
    letters[0] = letters[40]  # training copies a test sequence of the same class
    records = records_of(["train"] * 40 + ["test"] * 10, letters)
    first, again, other = (divided(records, GB, "paper", seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first["test"] == other["test"] == {f"seq{i}" for i in range(40, 50)}
    assert len(first["validation"]) == 4
    assert len(first["train"]) == 36
    assert "seq0" in first["train"] | first["validation"]


def test_the_papers_protocol_takes_a_given_validation_part() -> None:
    records = records_of(["train"] * 20 + ["validation"] * 6 + ["test"] * 6)
    parts = divided(records, GUE, "paper", seed=3)
    assert parts["validation"] == {f"seq{i}" for i in range(20, 26)}


def test_the_quirks_that_apply_are_named() -> None:
    records = records_of(
        ["train"] * 20 + ["test"] * 6, [s * 10 for s in sequences(26)]
    )  # 600 bases, at most 500
    found = set(divide(records, GB, DivisionConfig("paper")).quirks)
    assert found == {
        "uncleaned",
        "random_validation",
        "right_end_cut",
        "last_batch_dropped",
        "range_reported",
    }
    records = records_of(["train"] * 20 + ["test"] * 6)
    assert "padding_pooled" in divide(records, GB, DivisionConfig("paper")).quirks
    assert "padding_pooled" not in divide(records, NT, DivisionConfig("paper")).quirks
    assert "random_test" in divide(records_of(None, n=40), GB, DivisionConfig("paper")).quirks
    assert "random_folds" in divide(records, GB, DivisionConfig("paper", folds=2)).quirks
    assert found < set(QUIRKS)
    assert divide(records, GB, DivisionConfig("sound")).quirks == ()


def test_the_sound_protocol_removes_copies_on_either_strand() -> None:
    letters = sequences(60)
    letters[0] = letters[50]  # train copies test
    letters[1] = reverse_complement(letters[51])
    letters[2] = letters[42]  # train copies validation
    letters[43] = letters[53]  # validation copies test
    letters[4] = letters[6]  # copies inside training hurt nobody
    records = records_of(["train"] * 40 + ["validation"] * 10 + ["test"] * 10, letters)
    parts = divided(records, GUE, "sound")
    assert {f"seq{i}" for i in range(40)} - parts["train"] == {"seq0", "seq1", "seq2"}
    assert {f"seq{i}" for i in range(40, 50)} - parts["validation"] == {"seq43"}
    assert parts["test"] == {f"seq{i}" for i in range(50, 60)}
    explanation = divide(records, GUE, DivisionConfig()).explanation
    assert "copy a held-out one, on either strand: 4 sequences" in explanation


def test_the_sound_protocol_can_remove_what_resembles_a_held_out_sequence() -> None:
    rng = np.random.default_rng(1)
    letters = sequences(60)
    letters[0] = mutate(rng, letters[50], 1)
    records = records_of(["train"] * 40 + ["validation"] * 10 + ["test"] * 10, letters)
    assert "seq0" in divided(records, GUE, "sound")["train"]
    assert "seq0" not in divided(records, GUE, "sound", clean="similar")["train"]


def test_the_sound_protocol_validates_on_clusters() -> None:
    rng = np.random.default_rng(2)
    letters = [mutate(rng, family, 1) for family in sequences(12) for _ in range(4)] + sequences(12, seed=9)
    labels = [i // 4 % 2 for i in range(48)] + [i % 2 for i in range(12)]
    records = make_records(letters, labels, split=["train"] * 48 + ["test"] * 12)
    parts = divided(records, GB, "sound")
    families = {part: {int(name[3:]) // 4 for name in parts[part]} for part in ("train", "validation")}
    assert families["validation"]
    assert not families["train"] & families["validation"]


@pytest.mark.parametrize("protocol", ["paper", "sound"])
@pytest.mark.parametrize("split", [None, ["train"] * 40 + ["validation"] * 10 + ["test"] * 10])
def test_folds_cover_everything_but_the_official_test_part_once(
    protocol: str, split: list[str] | None
) -> None:
    records = records_of(split, n=60)
    tested: list[str] = []
    for fold in range(3):
        parts = divided(records, GUE if split else GB, protocol, folds=3, fold=fold)
        tested += parts["test"]
        assert all(parts.values())
        assert not parts["train"] & parts["test"]
    official = {f"seq{i}" for i in range(50, 60)} if split else set()
    assert sorted(tested) == sorted({f"seq{i}" for i in range(60)} - official)


@pytest.mark.parametrize("protocol", ["paper", "sound"])
def test_models_can_be_compared_without_the_test_part(protocol: str) -> None:
    letters = sequences(60)
    letters[0] = letters[45]  # training copies validation
    letters[1] = letters[55]  # and test, which is not there
    records = records_of(["train"] * 40 + ["validation"] * 10 + ["test"] * 10, letters)
    parts = divided(records, GUE, protocol, tested="validation")
    assert parts["test"] == {f"seq{i}" for i in range(40, 50)}
    rest = parts["train"] | parts["validation"]
    assert parts["validation"]
    assert {f"seq{i}" for i in range(40)} - rest == ({"seq0"} if protocol == "sound" else set())
    with pytest.raises(UserError, match="has no official validation part"):
        divided(records_of(["train"] * 40 + ["test"] * 10), GB, protocol, tested="validation")


def test_sound_folds_keep_families_together() -> None:
    rng = np.random.default_rng(2)
    letters = [mutate(rng, family, 1) for family in sequences(20) for _ in range(3)]
    records = make_records(letters, [i // 3 % 2 for i in range(60)])
    for fold in range(4):
        parts = divided(records, GB, "sound", folds=4, fold=fold)
        tested = {int(name[3:]) // 3 for name in parts["test"]}
        assert len(parts["test"]) == 3 * len(tested)


def test_copies_of_held_out_by_part() -> None:
    letters = sequences(4)
    letters[3] = letters[0]
    parts = np.array(["train", "train", "validation", "test"])
    assert copies_of_held_out(records_of(None, letters), parts).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "new"},
        {"folds": 1},
        {"folds": 3, "fold": 3},
        {"fold": 1},
        {"seed": -1},
        {"clean": "x"},
        {"tested": "x"},
        {"tested": "validation", "folds": 3},
    ],
)
def test_what_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"division\."):
        DivisionConfig(**options)  # type: ignore[arg-type]


def test_dividing_leaves_the_records_alone() -> None:
    records = records_of(["train"] * 20 + ["test"] * 6)
    before = replace(records, split=None if records.split is None else records.split.copy())
    divide(records, GB, DivisionConfig("paper"))
    assert records.split is not None
    assert before.split is not None
    assert (records.split == before.split).all()
