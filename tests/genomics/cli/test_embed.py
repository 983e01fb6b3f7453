from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from track_cases import bases, causal, classifier, write_genome

from seqmamba.cli.main import main

COMMAND = (
    "import genomics.embeddings as e, seqmamba.resumable as r; e.SHARD_ROWS = 20; r.CHECKPOINT_SECONDS = 0; "
    "from seqmamba.cli.main import entry_point; entry_point()"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embed")
    classifier().save_pretrained(path / "run" / "pretrained")
    causal().save_pretrained(path / "causal")
    write_genome(path / "g.fa", {"chr1": bases(3_000, 1), "chr2": bases(500, 2)})
    (path / "r.bed").write_text("chr1\t0\t50\ta\nchr2\t30\t90\tb\t0\t-\n")
    return path


def embed(folder: Path, model: str, output: str, *words: str) -> int:
    return main(
        ["genomics", "embed", str(folder / model), *words, "-o", str(folder / output), "--device", "cpu"]
    )


def test_fasta_and_bed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genome, bed = str(folder / "g.fa"), str(folder / "r.bed")
    assert embed(folder, "run", "a.parquet", genome, genome) == 0  # several files
    assert "a.parquet: 4 rows of 16 numbers" in capsys.readouterr().err
    assert pq.read_table(folder / "a.parquet")["id"].to_pylist() == ["chr1", "chr2"] * 2
    assert embed(folder, "causal", "b.npz", "--genome", genome, "--bed", bed) == 0
    found = np.load(folder / "b.npz")
    assert found["id"].tolist() == ["a", "b"]
    assert found["strand"].tolist() == [".", "-"]
    assert found["embedding"].shape == (2, 8)
    assert embed(folder, "causal", "c.npz", "--genome", genome, "--level", "window", "--window", "100") == 0
    assert len(np.load(folder / "c.npz")["id"]) == 35


def test_killed_and_resumed_to_the_same_bytes(folder: Path) -> None:
    words = ["genomics", "embed", "causal", "g.fa", "--level", "window", "--window", "10"]
    words += ["--device", "cpu", "--resume"]

    def start(output: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *words, "-o", output],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )

    whole = start("whole.parquet")
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    rows = folder / ".d.parquet.rows.part"
    process = start("d.parquet")
    while process.poll() is None and not (rows.exists() and rows.stat().st_size > 10_000):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "d.parquet").exists()
    last = start("d.parquet")
    _, said = last.communicate()
    assert last.returncode == 0, said
    assert (folder / "d.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()


def test_what_is_there_is_safe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "e.npz").write_text("old")
    genome = str(folder / "g.fa")
    assert embed(folder, "causal", "e.npz", genome) == 2
    assert "e.npz: exists already" in capsys.readouterr().err
    assert embed(folder, "causal", "e.npz", genome, "--resume") == 2
    assert "e.npz exists, and nothing says what it was made from" in capsys.readouterr().err
    assert (folder / "e.npz").read_text() == "old"
    assert embed(folder, "causal", "e.npz", genome, "--overwrite") == 0
    capsys.readouterr()
    assert embed(folder, "causal", "e.npz", genome, "--resume") == 0
    assert "is complete already" in capsys.readouterr().err
    assert embed(folder, "causal", "e.npz", genome, "--resume", "--dtype", "float16") == 2
    assert "--resume: dtype was float32, now it is float16" in capsys.readouterr().err
    assert len(np.load(folder / "e.npz")["id"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("f.csv", "X"), "expected a name that ends in .parquet or .npz"),
        (("f.npz",), "expected FASTA files or --genome, one of the two"),
        (("f.npz", "X", "--genome", "X"), "expected FASTA files or --genome, one of the two"),
        (("f.npz", "X", "--bed", "X"), "--bed: needs --genome"),
        (("f.npz", "nowhere.fa"), "nowhere.fa: no such file"),
        (("f.npz", "X", "--level", "word"), "invalid choice: 'word'"),
        (("f.npz", "X", "--layer", "9"), "--layer: expected -2 to 2, got 9"),
    ],
)
def test_mistakes_are_one_sentence(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output, *more = (word.replace("X", str(folder / "g.fa")) for word in words)
    assert embed(folder, "causal", output, *more) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not list(folder.glob("*f.npz*"))


@pytest.mark.parametrize(
    ("bed", "said"),
    [
        ("chr1\t0\t3001\n", ":1: chr1:0-3001 ends past the end of chr1, which has 3,000 bases"),
        ("chr1\t0\t30\nchr9\t0\t1\n", ":2: "),
        ("chr1\t5\t5\n", ":1: "),
        ("", "is empty"),
    ],
)
def test_intervals_that_do_not_fit(
    folder: Path, bed: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.bed").write_text(bed)
    words = ("--genome", str(folder / "g.fa"), "--bed", str(folder / "bad.bed"))
    assert embed(folder, "causal", "g.npz", *words) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "g.npz").exists()
