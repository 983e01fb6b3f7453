"""Runs killed in the middle of an epoch end like runs that nothing happened to, without replaying it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from placed_recipe import recipe
from processes import fit

from seqmamba.errors import UserError
from seqmamba.training.checkpoints import read_checkpoint
from seqmamba.training.step_checkpoint import StepCheckpoint


def last(folder: Path) -> dict[str, Any]:
    return read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["global_step"] == second["global_step"]
    for name, tensor in first["state_dict"].items():
        assert torch.equal(tensor, second["state_dict"][name]), name
    for a, b in zip(
        first["optimizer_states"][0]["state"].values(),
        second["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert torch.equal(a["exp_avg_sq"], b["exp_avg_sq"])


@pytest.mark.parametrize(
    ("strike", "step", "trainer"),
    [
        ("batch 4", 10, {}),  # two batches of the epoch kept, two more, killed in the next
        ("batch 2", 8, {"max_epochs": None, "max_steps": 18}),
        ("before last.ckpt", 6, {}),  # killed while the first checkpoint of the epoch was written
        ("validation", 10, {}),  # the last batches come again: they have no checkpoint before validation
        ("batch 4", 8, {"val_check_interval": 4}),  # none before a validation in the middle either
    ],
)
def test_a_killed_run_goes_on_at_the_next_step(
    tmp_path: Path, strike: str, step: int, trainer: dict[str, Any]
) -> None:
    assert fit(recipe(tmp_path / "whole", **trainer)) == 0
    killed = recipe(tmp_path / "killed", strike, **trainer)
    assert fit(killed) == -9
    assert last(tmp_path / "killed")["global_step"] == step
    assert fit(recipe(tmp_path / "killed", **trainer), "--ckpt_path", "last") == 0
    assert f"resumed at step {step}" in (tmp_path / "killed" / "log.txt").read_text()
    assert_same(last(tmp_path / "whole"), last(tmp_path / "killed"))
    metrics = [(tmp_path / run / "run" / "metrics.csv").read_text() for run in ("whole", "killed")]
    assert metrics[0] == metrics[1]


def test_the_number_of_steps_must_be_positive() -> None:
    with pytest.raises(UserError, match="every_n_steps: expected a positive number, got 0"):
        StepCheckpoint(0)
