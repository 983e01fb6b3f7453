"""A rank of a run is killed; the run goes on from its last checkpoint, on as many ranks and on half."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

_EPOCHS = 3


def kill_and_resume(out: Path, tiny: bool, end: float) -> dict[str, Any]:
    """Fit whole, then with a rank killed in its second epoch and resumed on 2 ranks and on 1.

    Args:
        out: Folder of the runs and their logs.
        tiny: Whether to run on the CPU.
        end: `time.monotonic` by which to be done.

    Returns:
        How long the other rank took to stop and what was said, and for each resumed run the largest
        difference of its losses from those of the whole run, relative.
    """
    config = recipe(out, tiny)
    whole, killed = out / "whole", out / "killed"
    found: dict[str, Any] = {"whole": _finish(_fit(config, whole, 2), end)}
    process = _fit(config, killed, 2)
    checkpoint = killed / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    victim = _rank_of(process.pid, 1)
    if victim is None:
        return {**found, "failure": f"no rank to kill, exit status {process.poll()}"}
    os.kill(victim, signal.SIGKILL)
    start = time.monotonic()
    found["killed"] = {"status": _finish(process, end), "seconds_to_stop": time.monotonic() - start}
    found["said"] = _lines(killed.with_suffix(".log"))
    expected = _losses(whole)
    for ranks, words in ((2, ()), (1, ()), (2, ("--trainer.strategy", "sharded"))):
        name = f"resumed on {ranks}{', parameters shared out' if words else ''}"
        run = out / name.replace(" ", "_")
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(killed, run)
        status = _finish(_fit(config, run, ranks, "--ckpt_path", "last", *words), end)
        losses = _losses(run)
        found[name] = {
            "status": status,
            "steps": len(losses),
            "same_steps": sorted(losses) == sorted(expected),
            "largest_difference": max(
                (abs(losses[step] / expected[step] - 1) for step in losses if step in expected), default=None
            ),
        }
    return found


def recipe(out: Path, tiny: bool) -> Path:
    """Write a genome of random bases and a recipe over it, and return the recipe's path."""
    draw = np.random.default_rng(0)
    length, width, depth = (256, 8, 1) if tiny else (131_072, 128, 8)
    fasta = out / "genome.fa"
    with fasta.open("w") as file:
        for name in ("chr1", "chr2"):
            bases = draw.choice(np.frombuffer(b"ACGT", dtype=np.uint8), 16 * length)
            file.write(f">{name}\n{bases.tobytes().decode()}\n")
    backbone = {"d_model": width, "n_layers": depth, "direction": "bidirectional"}
    content = {
        "model": {
            "class_path": "genomics.pretraining_task.PretrainingTask",
            "init_args": {"model": {"backbone": backbone}},
        },
        "data": {
            "class_path": "genomics.datasets.GenomeWindowDataModule",
            "init_args": {
                "genomes": [{"fasta": str(fasta), "validation": ["chr2"]}],
                "windows": {
                    "length": length,
                    "tokens_per_batch": length,
                    "steps_per_epoch": 40,
                    "evaluation_windows": 4,
                },
            },
        },
        "trainer": {
            "accelerator": "cpu" if tiny else "gpu",
            "precision": "32-true",
            "max_epochs": _EPOCHS,
            "log_every_n_steps": 1,
        },
    }
    path = out / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _fit(config: Path, run: Path, ranks: int, *more: str) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)),
        *("-m", "seqmamba", "fit", "--config", str(config), "-o", str(run)),
        *("--context_parallel", str(ranks), "--trainer.devices", str(ranks), *more),
    ]
    if not more:
        shutil.rmtree(run, ignore_errors=True)
    with run.with_suffix(".log").open("w") as log:
        environment = {**os.environ, "NCCL_NVLS_ENABLE": "0"}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _finish(process: subprocess.Popen[bytes], end: float) -> int | str:
    try:
        return process.wait(max(1.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(60)
        return "out of time"


def _rank_of(agent: int, rank: int) -> int | None:
    """The process of a rank among the children of torchrun."""
    for entry in Path("/proc").iterdir():
        try:
            parent = entry.joinpath("stat").read_text().rpartition(")")[2].split()[1]
            variables = entry.joinpath("environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        if parent == str(agent) and f"RANK={rank}".encode() in variables:
            return int(entry.name)
    return None


def _losses(run: Path) -> dict[int, float]:
    path = run / "metrics.csv"
    if not path.exists():
        return {}
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss_step")]
    return {int(row["step"]): float(row["train/loss_step"]) for row in rows}


def _lines(log: Path) -> list[str]:
    """What the run said at its end, without torchrun's traceback."""
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return [line[:200] for line in lines if not line.startswith((" ", "Traceback"))][-25:]
