from __future__ import annotations

import json

import numpy as np
import pytest
from labelled import make_records, random_dna, reverse_complement

from genomics.audit import AuditReport, audit
from genomics.splits import SplitConfig, assign
from seqmamba.errors import UserError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def levels(report: AuditReport, word: str) -> list[str]:
    return [finding.level for finding in report.findings if word in finding.text]


def test_clean_data_pass(rng: np.random.Generator) -> None:
    records = make_records([random_dna(rng, 80) for _ in range(400)], np.arange(400) % 2)
    report = audit(records, assign(records, SplitConfig())[0])
    assert report.ok
    assert report.verdict == "No problem found."
    assert report.parts == {"train": 300, "validation": 40, "test": 60}
    assert report.groups["pos"].n == 200
    assert report.groups["all"].length == (80, 80.0, 80)
    assert report.groups["all"].gc == pytest.approx(0.5, abs=0.02)


def test_copies_and_conflicting_labels_are_named(rng: np.random.Generator) -> None:
    sequences = [random_dna(rng, 80) for _ in range(40)]
    sequences += [sequences[0], sequences[2], reverse_complement(sequences[4]), sequences[0]]
    records = make_records(sequences, [*(np.arange(40) % 2), 0, 0, 1, 0])
    report = audit(records)
    assert report.copies == {"exact": 3, "reverse_complement": 1}
    assert report.conflicts == [["seq4", "seq42"]]
    assert levels(report, "different labels") == ["bad"]
    assert levels(report, "repeat another one") == ["warn"]
    assert report.leaks is None


def test_leaks_make_the_verdict(rng: np.random.Generator) -> None:
    half = [random_dna(rng, 80) for _ in range(60)]
    records = make_records(half * 2, np.arange(120) % 2)
    parts = np.array(["train"] * 60 + ["validation"] * 30 + ["test"] * 30)
    report = audit(records, parts)
    assert not report.ok
    assert report.verdict == "Do not evaluate on these data as they are."
    assert report.findings[0].text.startswith("Leak: 60 of 60")


def test_a_length_shortcut_is_bad_and_a_gc_difference_a_warning(rng: np.random.Generator) -> None:
    labels = np.arange(400) % 2
    by_length = make_records([random_dna(rng, 60 + 20 * int(label)) for label in labels], labels)
    report = audit(by_length)
    assert levels(report, "Sequence length alone") == ["bad"]
    assert report.shortcuts["length"].skill.value > 0.9
    by_gc = make_records([random_dna(rng, 80, 0.4 + 0.2 * label) for label in labels], labels)
    assert levels(audit(by_gc), "GC content alone") == ["warn"]


def test_ambiguous_bases_in_one_class_are_found(rng: np.random.Generator) -> None:
    labels = np.arange(300) % 2
    sequences = [
        random_dna(rng, 60) + "N" * (20 * int(label)) + "A" * (20 - 20 * int(label)) for label in labels
    ]
    report = audit(make_records(sequences, labels))
    assert levels(report, "The share of N alone") == ["bad"]
    assert levels(report, "not A, C, G or T") == ["warn"]


def test_a_set_too_small_to_split_is_still_audited() -> None:
    report = audit(make_records(["ACGT", "NNNN", ""], [0, 1, 1]))
    assert levels(report, "Shortcuts were not tested") == ["warn"]
    assert report.groups["pos"].gc == 0


def test_regression_and_multilabel(rng: np.random.Generator) -> None:
    content = rng.uniform(0.3, 0.7, 200)
    sequences = [random_dna(rng, 100, gc) for gc in content]
    targets = content[:, None].astype(np.float32)
    report = audit(make_records(sequences, targets, task="regression", classes=("gc",)))
    assert list(report.groups) == ["all"]
    assert report.shortcuts["gc"].skill.value > 0.7
    labels = np.stack([content > 0.5, content < 0.6], 1).astype(np.float32)
    report = audit(make_records(sequences, labels, task="multilabel", classes=("a", "b")))
    assert list(report.groups) == ["all", "a", "b"]


def test_no_sequence_is_an_error() -> None:
    with pytest.raises(UserError, match="at least one sequence"):
        audit(make_records([], np.empty(0, dtype=np.int64)))


def test_text_and_json_say_the_same(rng: np.random.Generator) -> None:
    records = make_records([random_dna(rng, 80) for _ in range(200)], np.arange(200) % 2)
    report = audit(records, assign(records, SplitConfig())[0])
    text = report.text()
    assert text.splitlines()[0].split()[:1] == ["sequences"]
    assert "split: train 150, validation 20, test 30" in text
    assert text.endswith(f"verdict: {report.verdict}")
    stored = json.loads(json.dumps(report.as_dict()))
    assert stored["verdict"] == report.verdict
    assert stored["groups"]["all"]["n"] == 200
    assert stored["leaks"]["ok"] is True
