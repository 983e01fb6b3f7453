"""``genomics attribute`` from end to end: what it writes and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pybigtools
import pytest
import torch
from track_cases import bases, classifier, write_genome

from genomics.alphabet import encode
from genomics.attribution import gradient_x_input
from seqmamba.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attribute")
    model = classifier("forward")
    with torch.no_grad():
        model.head.weight.mul_(30)
    model.save_pretrained(path / "model")
    classifier(classes=("a", "b", "c")).save_pretrained(path / "three")
    write_genome(path / "g.fa", {"chr2": bases(400, 1), "chr10": bases(300, 2), "short": bases(33, 3)})
    (path / "p.bed").write_text(
        "2\t300\t364\tpeak1\t0\t-\n2\t10\t74\tpeak2\t0\t+\n10\t100\t150\tpeak3\n2\t40\t104\tpeak4\t0\t+\n"
    )
    return path


def attribute(folder: Path, output: str, *words: str, model: str = "model") -> int:
    return main(["genomics", "attribute", str(folder / model), *words, "-o", str(folder / output)])


def test_intervals_become_a_bigwig(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--bed", str(folder / "p.bed"), "--genome", str(folder / "g.fa")]
    assert attribute(folder, "x.bw", *words) == 0
    said = capsys.readouterr().err
    assert "of the log-odds of yes over 4 sequences" in said
    assert "4 sequences" in said.splitlines()[-1]
    track = pybigtools.open(str(folder / "x.bw"))
    values = track.values("chr2", 0, 400, fillna=None)
    assert np.flatnonzero(~np.isnan(values)).tolist() == [*range(10, 104), *range(300, 364)]
    model = classifier("forward")
    with torch.no_grad():
        model.head.weight.mul_(30)
    text = bases(400, 1)
    tokens = torch.from_numpy(encode(text).astype(np.int64))
    one, two = (gradient_x_input(model, tokens[None, a : a + 64], None, 1)[0] for a in (10, 40))
    np.testing.assert_allclose(values[10:40], one[:30], atol=1e-5)
    np.testing.assert_allclose(values[40:74], (one[30:] + two[:34]) / 2, atol=1e-5)
    assert np.isnan(track.values("chr10", 0, 300, fillna=None)).sum() == 250


def test_a_fasta_file_becomes_a_table_with_drawings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--method", "ism", "--central", "12", "--both-strands", "--plot", str(folder / "plots")]
    words += ["--plots", "2", "--strand-report", str(folder / "strands.tsv")]
    assert attribute(folder, "x.tsv", str(folder / "g.fa"), *words) == 0
    rows = [line.split("\t") for line in (folder / "x.tsv").read_text().splitlines()]
    assert len(rows) == 1 + 3 * 12
    # 400 bases are cropped to 64 from 168 on, whose 12 in the middle start at 26.
    assert rows[1][:5] == ["chr2", "chr2", "194", ".", bases(400, 1)[194]]
    assert sorted(path.name for path in (folder / "plots").iterdir()) == ["chr10.logo.svg", "chr2.logo.svg"]
    (folder / "x.tsv").unlink()
    assert attribute(folder, "x.tsv", str(folder / "g.fa"), *words) == 2
    assert "strands.tsv: exists already\nhint: --overwrite replaces it" in capsys.readouterr().err
    (folder / "strands.tsv").unlink()
    assert attribute(folder, "x.tsv", str(folder / "g.fa"), *words) == 2
    assert "logo.svg: exists already\nhint: --overwrite replaces it" in capsys.readouterr().err
    assert not (folder / "x.tsv").exists()
    assert attribute(folder, "x.tsv", str(folder / "g.fa"), *words, "--overwrite") == 0
    strands = (folder / "strands.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in strands] == ["name", "chr2", "chr10", "short"]


def test_integrated_gradients_add_up_in_an_npz(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--method", "integrated_gradients", "--target", "no", "--steps", "64"]
    assert attribute(folder, "x.npz", str(folder / "g.fa"), *words) == 0
    assert "completeness: the scores of a sequence miss their sum by at most" in capsys.readouterr().err
    with np.load(folder / "x.npz") as found:
        assert found["target"] == "no"
        assert found["method"] == "integrated_gradients"
        assert (np.abs(found["gap"]) < 0.1 * np.abs(found["scores"]).sum()).all()
        assert found["offsets"].tolist() == [0, 64, 128, 161]


@pytest.mark.parametrize(
    ("output", "words", "said"),
    [
        ("x.txt", ["g.fa"], "expected a name that ends in .npz, .tsv, .bw"),
        ("x.bw", [], "expected a FASTA file or --bed, one of the two"),
        ("x.bw", ["--bed", "p.bed"], "--bed and --genome go together"),
        ("x.bw", ["g.fa", "--target", "maybe"], "--target: expected one of 0 no, 1 yes, got 'maybe'"),
        ("x.bw", ["g.fa", "--central", "0"], "central: expected a positive number"),
        ("x.bw", ["--bed", "far.bed", "--genome", "g.fa"], "far.bed:1"),
    ],
)
def test_mistakes_end_with_one_sentence(
    output: str,
    words: list[str],
    said: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "far.bed").write_text("chr2\t390\t410\n")
    (folder / output).unlink(missing_ok=True)
    assert attribute(folder, output, *words) == 2
    assert said in capsys.readouterr().err
    assert not (folder / output).exists()


def test_several_classes_need_a_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attribute(folder, "y.tsv", str(folder / "g.fa"), model="three") == 2
    assert "--target: has to be chosen, the model has 0 a, 1 b, 2 c" in capsys.readouterr().err
