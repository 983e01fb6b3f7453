"""The verb as a process: interrupted, killed, resumed; what it writes and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from track_cases import BOTH_WAYS, bases, causal, classifier, masked, write_genome

import genomics.tracks
from genomics.models import SequenceModel, SequenceModelConfig
from genomics.results import DataSummary, Results
from seqmamba.cli.main import main

# The real command with small blocks, so that a small genome has many points to be killed at.
COMMAND = (
    "import genomics.tracks as t; t.BLOCK_BASES = 1024; "
    "from seqmamba.cli.main import entry_point; entry_point()"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("track")
    classifier().save_pretrained(path / "classifier")
    classifier(classes=("x y", "z", "w/")).save_pretrained(path / "three")
    masked().save_pretrained(path / "masked")
    causal().save_pretrained(path / "causal")
    contigs = {"chr2": bases(10_011, 1, ((5_000, 7_000),)), "chr10": bases(8_000, 2), "s": bases(33, 3)}
    write_genome(path / "g.fa", contigs)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genomics.tracks, "BLOCK_BASES", 1024)


def start(folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "genomics", "track", *words, "--device", "cpu"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def done(unfinished: Path) -> int:
    try:
        return int((unfinished / "done").read_text())
    except (OSError, ValueError):
        return 0


@pytest.mark.parametrize(
    ("words", "output"),
    [
        pytest.param(("classifier", "--window", "60", "--step", "8"), "a.bw", marks=pytest.mark.slow),
        (("causal", "--both-strands", "--batch-bases", "500"), "b.bw"),
        pytest.param(
            ("masked", "--window", "256", "--mask-every", "2"), "c.bedGraph.gz", marks=pytest.mark.slow
        ),
    ],
)
def test_killed_and_resumed_to_the_same_bytes(folder: Path, words: tuple[str, ...], output: str) -> None:
    words = (*words, "--genome", "g.fa")
    whole = start(folder, *words, "-o", f"whole.{output}")
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    unfinished = folder / f"{output}.unfinished"
    kills = 0
    for target in (3, 9):
        process = start(folder, *words, "-o", output, "--resume")
        while process.poll() is None and done(unfinished) < target:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert not (folder / output).exists()
    assert kills == 2
    # what was written behind the last safe point does not count
    with (unfinished / "values.f32").open("ab") as file:
        file.write(b"garbage")
    before = done(unfinished)
    assert before >= 9
    last = start(folder, *words, "-o", output, "--resume")
    _, said = last.communicate()
    assert last.returncode == 0, said
    assert (folder / output).read_bytes() == (folder / f"whole.{output}").read_bytes()
    assert not list(folder.glob(f"*{output}*unfinished*")) + list(folder.glob(".*.part"))


def test_killed_while_the_file_is_written(folder: Path) -> None:
    words = ("causal", "--genome", "g.fa", "-o", "d.bw", "--resume")
    process = start(folder, *words)
    file = folder / "d.bw.unfinished" / "track.bw"
    while process.poll() is None and not file.exists():
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode == -signal.SIGKILL:
        assert not (folder / "d.bw").exists()
    for name in ("d.bw", "e.bw"):
        assert track(folder, "causal", name, "--resume") == 0
    assert (folder / "d.bw").read_bytes() == (folder / "e.bw").read_bytes()


def track(folder: Path, model: str, output: str, *words: str) -> int:
    place = ["--genome", str(folder / "g.fa"), "-o", str(folder / output), "--device", "cpu"]
    return main(["genomics", "track", str(folder / model), *place, *words])


def test_one_file_a_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert track(folder, "three", "f.bedGraph", "--step", "50") == 0
    files = [folder / f"f.{name}.bedGraph" for name in ("x_y", "z", "w_")]
    assert capsys.readouterr().err.splitlines()[-3:] == [str(file) for file in files]
    tables = [np.loadtxt(file, dtype=str) for file in files]
    assert (tables[0][:, :3] == tables[1][:, :3]).all()
    np.testing.assert_allclose(sum(table[:, 3].astype(float) for table in tables), 1, atol=1e-5)
    assert track(folder, "three", "f.bedGraph", "--step", "50", "--target", "z") == 0
    assert (folder / "f.bedGraph").read_bytes() == files[1].read_bytes()


def test_calls_above_a_threshold(folder: Path) -> None:
    assert track(folder, "classifier", "g.bedGraph", "--step", "50", "--chroms", "10", "chr2") == 0
    rows = [line.split("\t") for line in (folder / "g.bedGraph").read_text().splitlines()]
    threshold = float(np.median([float(row[3]) for row in rows]))
    assert track(folder, "classifier", "g.bed", "--step", "50", "--threshold", str(threshold)) == 0
    called = np.loadtxt(folder / "g.bed", dtype=str)
    covered = {(chrom, base) for chrom, a, b, *_ in called for base in range(int(a), int(b), 50)}
    for chrom, first, _, value in rows:
        if abs(float(value) - threshold) > 1e-6:
            assert ((chrom, int(first)) in covered) == (float(value) > threshold)
    assert set(called[:, 3]) == {"yes"}


def test_sorted_as_the_tools_want_it(folder: Path) -> None:
    assert track(folder, "causal", "h.bedGraph", "--bin", "100") == 0
    rows = [line.split("\t") for line in (folder / "h.bedGraph").read_text().splitlines()]
    keys = [(row[0].encode(), int(row[1])) for row in rows]
    assert keys == sorted(keys)
    assert {row[0] for row in rows} == {"chr10", "chr2", "s"}


def test_windows_of_a_run_are_as_long_as_its_sequences(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = SequenceModel(SequenceModelConfig(BOTH_WAYS, classes=("no", "yes")))
    model.save_pretrained(folder / "run" / "pretrained")
    assert track(folder, "run", "p.bedGraph") == 2
    assert "--window: the model does not tell" in capsys.readouterr().err
    data = DataSummary(n=2, lengths={"min": 10, "median": 48.0, "max": 100})
    Results(title="x", task="classification", classes=("no", "yes"), data=data).save(
        folder / "run" / "results.json"
    )
    assert track(folder, "run", "p.bedGraph") == 0
    assert track(folder, "run", "q.bedGraph", "--window", "48", "--step", "12") == 0
    assert (folder / "p.bedGraph").read_bytes() == (folder / "q.bedGraph").read_bytes()


def test_what_is_there_is_safe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "i.bw").write_text("old")
    assert track(folder, "causal", "i.bw") == 2
    assert "i.bw: exists already\nhint: --overwrite replaces it" in capsys.readouterr().err
    assert track(folder, "causal", "i.bw", "--resume") == 2
    assert "i.bw exists, and nothing says what it was made from" in capsys.readouterr().err
    assert (folder / "i.bw").read_text() == "old"
    assert track(folder, "causal", "i.bw", "--overwrite") == 0
    size = (folder / "i.bw").stat().st_size
    assert size > 1_000
    assert track(folder, "causal", "i.bw", "--resume") == 0  # nothing left to do
    assert "is complete already" in capsys.readouterr().err
    assert track(folder, "causal", "i.bw", "--resume", "--bin", "2") == 2
    assert "--resume: --bin was 1, now it is 2" in capsys.readouterr().err
    assert (folder / "i.bw").stat().st_size == size
    (folder / "n.bw").mkdir()
    assert track(folder, "causal", "n.bw", "--overwrite") == 2
    assert "n.bw: is a folder, expected the file to write" in capsys.readouterr().err


def test_a_run_that_fails_at_once_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = causal()
    with torch.no_grad():
        broken.embedding.weight.fill_(torch.nan)
    broken.save_pretrained(folder / "broken")
    assert track(folder, "broken", "o.bw") == 2
    assert "the model gives NaN or infinite values" in capsys.readouterr().err
    assert not list(folder.glob("*o.bw*"))


def test_other_options_do_not_mix_with_an_unfinished_track(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--window", "60", "--step", "8")
    process = start(folder, "classifier", "--genome", "g.fa", "-o", "j.bw", *words)
    unfinished = folder / "j.bw.unfinished"
    while process.poll() is None and done(unfinished) < 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)
    assert track(folder, "classifier", "j.bw", *words) == 2
    assert "--resume goes on with it, --overwrite starts again" in capsys.readouterr().err
    process.kill()
    process.communicate()
    for model, others, said in (
        (
            "classifier",
            ("--window", "50", "--step", "8"),
            "--resume: --window was 60, now it is 50",
        ),
        ("masked", ("--window", "60"), "the model was"),
        ("classifier", (*words, "--chroms", "s"), "what --chroms, --regions and --bin cover was"),
    ):
        assert track(folder, model, "j.bw", *others, "--resume") == 2
        assert said in capsys.readouterr().err
    (unfinished / "done").write_text("many")
    assert track(folder, "classifier", "j.bw", *words, "--resume") == 2
    (unfinished / "plan.json").write_text("{}")
    assert track(folder, "classifier", "j.bw", *words, "--resume") == 2
    assert capsys.readouterr().err.count("is damaged") == 2
    assert track(folder, "classifier", "j.bw", *words, "--overwrite") == 0


def test_two_processes_do_not_work_on_one_track(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--window", "60", "--step", "8")
    process = start(folder, "classifier", "--genome", "g.fa", "-o", "k.bw", *words)
    while process.poll() is None and done(folder / "k.bw.unfinished") < 1:
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)
    assert track(folder, "classifier", "k.bw", *words, "--resume") == 2
    assert track(folder, "classifier", "k.bw", *words, "--overwrite") == 2
    assert capsys.readouterr().err.count("another process is working on this track") == 2
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert (folder / "k.bw").exists()


def test_an_interrupt_says_nothing_but_that(folder: Path) -> None:
    process = start(folder, "classifier", "--genome", "g.fa", "-o", "l.bw", "--window", "60", "--step", "8")
    while process.poll() is None and done(folder / "l.bw.unfinished") < 1:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert (folder / "l.bw.unfinished").is_dir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "m.bw"), "expected a model folder or owner/name on the hub"),
        (("causal", "m.txt"), "expected a name that ends in .bw"),
        (("causal", "m.bed"), "give the least value of a call"),
        (("causal", "m.bw", "--threshold", "1"), "--threshold: is for BED and narrowPeak, not for bigWig"),
        (("causal", "m.bw", "--genome", "nowhere.fa"), "nowhere.fa: no such file"),
        (("causal", "m.bw", "--regions", "nowhere.bed"), "nowhere.bed: no such file"),
        (("causal", "m.bw", "--chroms", "chrQ"), "has no sequence named 'chrQ'"),
        (("causal", "m.bw", "--window", "x"), "invalid int value"),
        (("causal", "m.bw", "--device", "cuda:77"), "--device"),
    ],
)
def test_mistakes_are_one_sentence(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, output, *more = words
    assert track(folder, model, output, *more) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not list(folder.glob("m.*"))
