"""``seqmamba genomics motifs`` on a model that knows one motif."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from motif_model import MOTIF, MotifModel, small_config

import genomics.inference
from genomics.alphabet import encode
from genomics.motif_files import NamedMotif
from genomics.motif_run import best_places
from seqmamba.cli.main import main

OTHER = "GGCCGTCCG"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sequences of which the first 12 hold the motif, six of them on the other strand; and two motifs."""
    model = MotifModel(small_config(classes=("no", "yes"))).eval()
    monkeypatch.setattr(genomics.inference, "load_model", lambda where, device: model)
    rng = np.random.default_rng(1)
    turned = MOTIF[::-1].translate(str.maketrans("ACGT", "TGCA"))
    lines = []
    for number in range(16):
        letters = "".join(rng.choice(list("ACGT"), 61))
        if number < 12:
            at = int(rng.integers(0, 50))
            letters = letters[:at] + (MOTIF if number % 2 else turned) + letters[at + len(MOTIF) :]
        lines.append(f">s{number}\n{letters}\n")
    lines += [">short\nACGT\n", ">unknown\n" + "ACGTN" * 13 + "\n"]
    (tmp_path / "x.fa").write_text("".join(lines))
    text = "".join(
        f">{name}\n" + "".join(" ".join(str(9 * (c == b)) for c in letters) + "\n" for b in "ACGT")
        for name, letters in (("known", MOTIF), ("other", OTHER))
    )
    (tmp_path / "m.txt").write_text(text)
    return tmp_path


def motifs(folder: Path, *words: str) -> dict[tuple[str, str], dict[str, str]]:
    out = folder / "out.tsv"
    given = ["--motifs", str(folder / "m.txt"), "--fasta", str(folder / "x.fa"), "-o", str(out)]
    assert main(["genomics", "motifs", "RUN", *given, *words, "--traceback"]) == 0
    with out.open() as file:
        return {(row["motif"], row["experiment"]): row for row in csv.DictReader(file, delimiter="\t")}


def test_a_motif_put_in(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tangermeme")
    rows = motifs(folder, "--plot", str(folder / "x.svg"), "--length", "60")
    assert set(rows) == {(m, e) for m in ("known", "other") for e in ("inserted", "inserted_rc")}
    assert float(rows["known", "inserted"]["low"]) > 2
    for other in (("known", "inserted_rc"), ("other", "inserted")):
        assert float(rows[other]["high"]) < float(rows["known", "inserted"]["low"])
    assert {row["sequences"] for row in rows.values()} == {"16"}
    assert rows["known", "inserted"]["letters"] == MOTIF
    assert (folder / "x.svg").read_text().startswith("<?xml")
    said = capsys.readouterr().err
    assert (
        "2 motifs, change of the log-odds of yes over 16 sequences of 60 bases, 1 shorter and 1 with" in said
    )


def test_a_motif_shuffled_away(folder: Path) -> None:
    pytest.importorskip("tangermeme")
    rows = motifs(folder, "--experiment", "ablate", "--shuffles", "4", "--sequences", "14")
    assert rows["known", "ablated"]["sequences"] == "12"
    assert float(rows["known", "ablated"]["high"]) < -0.5  # six of twelve are on the strand that counts
    assert float(rows["known", "control"]["mean"]) > float(rows["known", "ablated"]["high"])
    assert rows["other", "ablated"]["sequences"] == "0"
    assert rows["other", "ablated"]["mean"] == ""


def test_occurrences_on_both_strands() -> None:
    counts = np.stack([[letter == base for letter in MOTIF] for base in "ACGT"]).astype(float)
    turned = MOTIF[::-1].translate(str.maketrans("ACGT", "TGCA"))
    letters = ["A" * 5 + MOTIF + "C" * 6, "C" * 9 + turned + "GG", "ACGTACGTTTTTTTTGGGGG"]
    tokens = torch.from_numpy(np.stack([encode(row) for row in letters]).astype(np.int64))
    assert best_places(tokens, NamedMotif("m", counts), 1e-4).tolist() == [5, 9, -1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fasta", "x.fa", "--bed", "y.bed"], "expected a FASTA file or --bed, one of the two"),
        (["--bed", "y.bed"], "--bed and --genome go together"),
        (["--fasta", "x.fa", "--plot", "x.txt"], "--plot x.txt: expected a name that ends in .svg"),
        (["--fasta", "x.fa", "--p-value", "0"], "--p-value: expected a number between 0 and 1"),
        (["--fasta", "x.fa", "--length", "0"], "--length: expected a positive number"),
        (["--fasta", "x.fa", "--length", "900"], "no sequence is left: 18 are shorter than 900 bases"),
        (["--fasta", "x.fa", "--length", "5"], "motif known: 9 bases do not fit into 5"),
        (["--fasta", "x.fa", "--shuffles", "0"], "--shuffles: expected a whole number >= 1"),
    ],
)
def test_what_is_refused(
    folder: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(["genomics", "motifs", "RUN", "--motifs", "m.txt", "-o", "out.tsv", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "out.tsv").exists()


def test_nothing_is_replaced_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tangermeme")
    (folder / "out.tsv").write_text("old")
    given = ["--motifs", str(folder / "m.txt"), "--fasta", str(folder / "x.fa")]
    assert main(["genomics", "motifs", "RUN", *given, "-o", str(folder / "out.tsv")]) == 2
    assert "out.tsv: exists already\nhint: --overwrite replaces it" in capsys.readouterr().err
    assert (folder / "out.tsv").read_text() == "old"
    assert len(motifs(folder, "--overwrite", "--sequences", "2")) == 4


def test_without_tangermeme(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tangermeme"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tangermeme", None)
    words = ["--motifs", str(folder / "m.txt"), "--fasta", str(folder / "x.fa"), "-o", str(folder / "o.tsv")]
    assert main(["genomics", "motifs", "RUN", *words]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: motif experiments need tangermeme",
        "hint: pip install 'seqmamba[interpret]'",
    ]
