"""``genomics audit`` from end to end, on small sets with the defects of published ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interval_cases import (
    Parts,
    overlapping_negatives,
    repeated_positives,
    scattered,
    sound,
    told_by_length,
    write_parts,
)

from genomics.alphabet import decode
from seqmamba.cli.main import main


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def audited(folder: Path, *options: str) -> dict[str, Any]:
    report = folder.parent / "report.json"
    words = ["genomics", "audit", str(folder), "--json", str(report), "--overwrite"]
    assert main([*words, *options]) == 0
    content: dict[str, Any] = json.loads(report.read_text())
    return content


def test_a_sound_set_passes(rng: np.random.Generator, tmp_path: Path) -> None:
    report = audited(write_parts(tmp_path / "set", sound(rng)))
    assert report["ok"]
    assert report["verdict"] == "No problem found."
    assert report["compared"] == "coordinates"
    assert report["leaks"]["by_class"]["positive"]["held_out"] == 100
    assert report["leaks"]["similarity"] is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (told_by_length, "Sequence length alone tells"),
        (
            repeated_positives,
            "Of the test sequences of class positive, 75.0% can be (75.0% have an exact copy",
        ),
        (overlapping_negatives, "of class negative, 99.0% can be (99.0% overlap one)"),
    ],
)
def test_the_defects_of_published_sets_are_caught_from_coordinates(
    make: Callable[[np.random.Generator], Parts],
    words: str,
    rng: np.random.Generator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = audited(write_parts(tmp_path / "set", make(rng)))
    assert not report["ok"]
    assert report["verdict"] == "Do not evaluate on these data as they are."
    assert report["findings"][0]["level"] == "bad"
    assert words in report["findings"][0]["text"]
    assert words in capsys.readouterr().out


def test_a_set_is_cleaned_and_sound_afterwards(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_parts(tmp_path / "set", repeated_positives(rng))
    assert not audited(folder, "--clean", str(tmp_path / "clean"))["ok"]
    said = capsys.readouterr().out
    assert "75  copies a sequence of a later part" in said
    assert "test: 200 of 200 rows stay (all)" in said
    assert said.splitlines()[-1].startswith("No leak")
    report = audited(tmp_path / "clean")
    assert report["ok"]
    assert report["parts"] == {"train": 525, "test": 200}
    assert main(["genomics", "audit", str(folder), "--clean", str(tmp_path / "clean")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_new_split_by_chromosome_mends_overlaps(rng: np.random.Generator, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "set", overlapping_negatives(rng))
    report = audited(folder, "--split", "chromosome")
    assert report["leaks"]["ok"]
    assert set(report["parts"]) == {"train", "validation", "test"}


def test_the_genome_shows_what_coordinates_hide(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genome = {f"chr{i}": rng.integers(7, 11, 250_000).astype(np.uint8) for i in range(1, 9)}
    parts = sound(rng)
    # Every test positive is a repeat of a training positive elsewhere in the genome, with a few mutations.
    for (chrom, start, end, _), (where, at, _, _) in zip(
        parts["test"]["positive"], parts["train"]["positive"], strict=False
    ):
        copy = genome[where][at : at + end - start].copy()
        some = rng.integers(0, len(copy), 2)
        copy[some] = 17 - copy[some]  # A and T, C and G
        genome[chrom][start:end] = copy
    text = "".join(f">{name}\n{decode(tokens)}\n" for name, tokens in genome.items())
    (tmp_path / "g.fa").write_text(text)
    folder = write_parts(tmp_path / "set", parts)
    assert audited(folder)["ok"]
    report = audited(folder, "--genome", str(tmp_path / "g.fa"))
    assert report["compared"] == "sequences"
    assert report["leaks"]["by_class"]["positive"]["similar"] == 100
    assert report["leaks"]["by_class"]["negative"]["affected"] == 0
    assert report["shortcuts"].keys() == {"length", "gc", "ambiguity", "grid", "chromosome"}


def test_bed_files_without_a_genome(rng: np.random.Generator, tmp_path: Path) -> None:
    for name, first in (("peaks", 0), ("rest", 400)):
        rows = sorted(scattered(rng, 400, length=100 + first, first=first))
        text = "".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end, _ in rows)
        (tmp_path / f"{name}.bed").write_text(text)
    files = [str(tmp_path / f"{name}.bed") for name in ("peaks", "rest")]
    out = str(tmp_path / "report.json")
    assert main(["genomics", "audit", "--bed", *files, "--json", out]) == 0
    report = json.loads(Path(out).read_text())
    assert report["groups"]["peaks"]["length"] == [100, 100.0, 100]
    assert report["shortcuts"]["length"]["accuracy"] == 1


def test_train_and_test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        rows = [f">{part}{i}|{i % 2}\n{'ACGTTGCA' * 4}{'ACGT'[i % 4] * (5 + i)}\n" for i in range(12)]
        (tmp_path / f"{part}.fa").write_text("".join(rows))
    files = ["--train", str(tmp_path / "train.fa"), "--test", str(tmp_path / "test.fa")]
    assert main(["genomics", "audit", *files]) == 0
    assert "Leak: 12 of 12 held-out sequences (100.0%)" in capsys.readouterr().out
    assert main(["genomics", "audit", str(tmp_path / "train.fa"), *files]) == 2
    assert "go with no other files" in capsys.readouterr().err
