"""``seqmamba genomics score-variants``, killed, interrupted and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scored_files import leftovers, words, write_inputs

from seqmamba.cli.main import main
from seqmamba.resumable import ResumableFile


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def start(inputs: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    """Run the verb in a process of its own that keeps a checkpoint of every four rows."""
    script = (
        "import sys, seqmamba.resumable\n"
        "from seqmamba.cli.main import main\n"
        "seqmamba.resumable.CHECKPOINT_SECONDS = 0\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        script,
        *words(inputs, "one_strand", output, "--batch-bases", "64", *more),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def stop_after(process: subprocess.Popen[str], output: Path, number: int, records: int) -> str:
    """Send a signal once a checkpoint has so many records; return stderr."""
    checkpoint = output.with_name(f".{output.name}.checkpoint.part")
    deadline = time.monotonic() + 120
    while not checkpoint.exists() or json.loads(checkpoint.read_text())["records"] < records:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=60)[1]


@pytest.mark.parametrize("name", ["out.vcf.gz", "out.parquet"])
def test_killed_runs_go_on_to_the_same_bytes(inputs: Path, tmp_path: Path, name: str) -> None:
    whole, output = tmp_path / f"whole_{name}", tmp_path / name
    small = ["--batch-bases", "64"]
    assert main(words(inputs, "one_strand", whole, *small)) == 0
    killed = start(inputs, output)
    stop_after(killed, output, signal.SIGKILL, 20)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    rows = output.with_name(f".{name}.rows.part")
    with rows.open("ab") as handle:
        handle.write(b"half a li")  # what a kill in the middle of a write leaves
    interrupted = start(inputs, output, "--resume")
    err = stop_after(interrupted, output, signal.SIGINT, 60)
    assert interrupted.returncode == 130
    assert "interrupted; the same command with --resume goes on" in err
    assert not output.exists()
    assert main(words(inputs, "one_strand", output, *small, "--resume")) == 0
    assert output.read_bytes() == whole.read_bytes()
    assert leftovers(tmp_path) == []


def test_a_run_in_the_way_is_not_lost(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.tsv"
    process = start(inputs, output)
    stop_after(process, output, signal.SIGKILL, 8)
    small = ["--batch-bases", "64"]

    def error(*more: str, model: str = "one_strand") -> str:
        assert main(words(inputs, model, output, *more)) == 2
        return capsys.readouterr().err

    assert "an interrupted run is there" in error(*small)
    assert "--resume: batch_bases was 64, now it is 128" in error("--batch-bases", "128", "--resume")
    assert "--resume: strands was both, now it is forward" in error(
        *small, "--strands", "forward", "--resume"
    )
    assert "--resume: model was" in error(*small, "--resume", model="causal")
    checkpoint = output.with_name(f".{output.name}.checkpoint.part")
    state = checkpoint.read_text()
    checkpoint.write_text(state[:-9])
    assert "is damaged" in error(*small, "--resume")
    checkpoint.write_text(state.replace('"bytes": ', '"bytes": 99'))
    assert "is shorter than it was" in error(*small, "--resume")
    checkpoint.write_text(state)
    assert main(words(inputs, "one_strand", output, *small, "--overwrite")) == 0
    finished = output.read_bytes()
    capsys.readouterr()
    assert "exists already" in error(*small)
    assert "--resume: batch_bases was 64, now it is 128" in error("--batch-bases", "128", "--resume")
    assert main(words(inputs, "one_strand", output, *small, "--resume")) == 0
    assert "is complete already" in capsys.readouterr().err
    assert output.read_bytes() == finished
    assert leftovers(tmp_path) == []


def test_two_processes_do_not_write_one_file(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.vcf"
    with ResumableFile(output, {}, bgzip=False, resume=False, overwrite=False):
        assert main(words(inputs, "masked", output, "--overwrite")) == 2
        assert "is being written by another process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
