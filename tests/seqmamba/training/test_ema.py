"""The average of the weights: what it is, who sees it, and that it survives a kill."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import tiny_recipe
import torch
from processes import fit
from test_exact_resume import differences, outcome, struck
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.training.checkpoints import DataOnlyCheckpointIO, RunCheckpoint, read_checkpoint
from seqmamba.training.ema import WeightAverage
from seqmamba.training.run_folder import RunFolder

HEAD = "head.weight"
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*LeafSpec.*",
    "ignore:.*smaller than the logging interval.*",
)


class Witness(L.Callback):
    """Writes down the head's weights after each step and those that validation sees."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.trained.append(pl_module.head.weight.detach().clone())

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(pl_module.head.weight.detach().clone())


def train(folder: Path, decay: float, **options: Any) -> tuple[tiny_recipe.TinyTask, Witness, Tensor]:
    torch.manual_seed(0)
    task, witness = tiny_recipe.TinyTask(), Witness()
    first = task.head.weight.detach().clone()
    run = RunFolder(folder)
    run.prepare(resume=False)
    L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        callbacks=[WeightAverage(decay), witness, RunCheckpoint(run)],
        plugins=[DataOnlyCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    ).fit(task, tiny_recipe.TinyData())
    return task, witness, first


def by_hand(first: Tensor, steps: list[Tensor], decay: float) -> Tensor:
    average = first.clone()
    for n, weight in enumerate(steps):
        kept = min(decay, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * weight
    return average


def test_validation_and_the_best_checkpoint_have_the_average_and_training_its_own_weights(
    tmp_path: Path,
) -> None:
    task, witness, first = train(tmp_path, decay=0.5)
    expected = [by_hand(first, witness.trained[:steps], 0.5) for steps in (5, 5, 10, 10)]
    torch.testing.assert_close(witness.validated, expected)
    assert torch.equal(task.head.weight, witness.trained[-1])

    best, last = (read_checkpoint(tmp_path / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    assert any(torch.equal(best["state_dict"][HEAD], seen) for seen in witness.validated)
    assert torch.equal(last["state_dict"][HEAD], witness.trained[-1])
    assert torch.equal(last["weight_average"]["average"][HEAD], witness.validated[-1])


def test_buffers_of_real_numbers_are_averaged_and_counts_are_not(tmp_path: Path) -> None:
    task, _, _ = train(tmp_path, decay=0.9)
    average = read_checkpoint(tmp_path / "checkpoints/last.ckpt")["weight_average"]["average"]
    assert "net.1.num_batches_tracked" not in average
    assert not torch.equal(average["net.1.running_mean"], task.net[1].running_mean)


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    _, witness, first = train(tmp_path, decay=0.5, accumulate_grad_batches=5)
    steps = witness.trained[4::5]
    torch.testing.assert_close(witness.validated[-1], by_hand(first, steps, 0.5))


def test_without_validation_the_best_checkpoint_is_the_average_too(tmp_path: Path) -> None:
    _, witness, first = train(tmp_path, decay=0.5, limit_val_batches=0)
    best = read_checkpoint(tmp_path / "checkpoints/best.ckpt")["state_dict"][HEAD]
    torch.testing.assert_close(best, by_hand(first, witness.trained, 0.5))


def test_kill_9_then_resume(tmp_path: Path) -> None:
    trainer = {
        "callbacks": [
            {"class_path": "seqmamba.training.ema.WeightAverage", "init_args": {"decay": 0.8}},
        ]
    }
    whole = tiny_recipe.recipe(tmp_path / "whole", trainer=trainer)
    assert fit(whole) == 0, (whole.parent / "log.txt").read_text()
    broken = tiny_recipe.recipe(tmp_path / "broken", trainer=trainer)
    assert fit(broken, struck("batch 3")) == -signal.SIGKILL
    assert fit(broken, "--ckpt_path", "last") == 0, (broken.parent / "log.txt").read_text()
    assert differences(outcome(broken), outcome(whole)) == []
    last = [read_checkpoint(run.parent / "run/checkpoints/last.ckpt") for run in (whole, broken)]
    assert differences(last[0]["weight_average"], last[1]["weight_average"]) == []


@pytest.mark.parametrize("decay", [0, 1, -0.5, 2])
def test_a_decay_that_keeps_all_or_nothing_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match="decay: expected a number between 0 and 1"):
        WeightAverage(decay)
