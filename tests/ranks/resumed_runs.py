"""What runs with `ranks.KeepSteps` saw, and whether one of them goes on as another did."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import seqmamba.backbones  # noqa: F401  whose states checkpoints may hold
from seqmamba.training.checkpoints import read_checkpoint


def samples(run: Path) -> dict[int, list[int]]:
    """The samples of all ranks in each step, sorted."""
    found: dict[int, list[int]] = {}
    for line in (run / "samples.txt").read_text().splitlines():
        step, *keys = map(int, line.split())
        found.setdefault(step, []).extend(keys)
    return {step: sorted(keys) for step, keys in found.items()}


def losses(run: Path) -> dict[str, list[float]]:
    """The loss of every step by its number, and of every epoch."""
    found: dict[str, list[float]] = {}
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name in ("train/loss_step", "train/loss", "val/loss"):
                if row.get(name):
                    found.setdefault(name, []).append(float(row[name]))
    return found


def assert_goes_on(run: Path, whole: Path, start: int) -> None:
    """From a step on, the same samples, losses and weights."""
    assert samples(run) == {step: keys for step, keys in samples(whole).items() if step >= start}
    expected = losses(whole)
    for name, values in losses(run).items():
        assert values == pytest.approx(expected[name][-len(values) :], rel=1e-5), name
    states = [read_checkpoint(each / "checkpoints" / "last.ckpt") for each in (run, whole)]
    torch.testing.assert_close(*(state["state_dict"] for state in states), rtol=1e-5, atol=1e-5)
