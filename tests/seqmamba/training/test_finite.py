"""Steps whose loss or gradient is not finite change nothing, and are counted and reported."""

from __future__ import annotations

import copy
import csv
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import tiny_recipe
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from processes import FORKS, fit
from test_exact_resume import differences, outcome, struck
from tiny_recipe import PoisonedTask, TinyData
from torch import nn

from seqmamba.errors import UserError
from seqmamba.training.callbacks import EpochLines
from seqmamba.training.finite import FiniteSteps
from seqmamba.training.optimisation import OptimiserConfig, build_optimiser

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning"),
]
PARTS = ("input", "loss", "gradient")
TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 2,
    "limit_val_batches": 0,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def state(trainer: L.Trainer, task: L.LightningModule) -> dict[str, Any]:
    """All that a step changes."""
    (optimiser,), (schedule,) = trainer.optimizers, trainer.lr_scheduler_configs
    return copy.deepcopy(
        {
            "model": dict(task.state_dict()),
            "moments": optimiser.state_dict()["state"],
            "lr": [group["lr"] for group in optimiser.param_groups],
            "schedule": schedule.scheduler.last_epoch,
        }
    )


class Changes(L.Callback):
    """Notes for each optimiser step what it changed, and the last state."""

    def __init__(self) -> None:
        self.changed: list[set[str]] = []
        self.before: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before, self.steps = state(trainer, pl_module), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if trainer.global_step == self.steps:
            return
        now = state(trainer, pl_module)
        self.changed.append({name for name in now if not same(now[name], self.before[name])})
        self.before, self.steps = now, trainer.global_step


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def train(task: L.LightningModule, finite: FiniteSteps, **options: Any) -> Changes:
    changes = Changes()
    L.Trainer(callbacks=[finite, changes], **{**TRAINER, **options}).fit(task, TinyData())
    assert all(p.isfinite().all() for p in task.state_dict().values())
    return changes


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("part", PARTS)
def test_a_bad_step_changes_nothing(part: str, precision: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finite = FiniteSteps()
    task = PoisonedTask(
        [1, 3, 4, 7], part, optimiser=OptimiserConfig(weight_decay=0.1, max_skipped_share=0.6)
    )
    changes = train(task, finite, precision=precision)
    for step, changed in enumerate(changes.changed):
        assert changed == (set() if step in task.bad else {"model", "moments", "lr", "schedule"}), step
    assert (finite.skipped, finite.in_a_row, changes.before["schedule"]) == (4, 0, 6)
    cause = "the norm of the gradient became nan" if part == "gradient" else "the training loss became"
    lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert len(lines) == 4
    for line, step in zip(lines, task.bad, strict=True):
        assert line.startswith(f"step {step} skipped: {cause}")


@pytest.mark.parametrize("part", PARTS)
def test_all_batches_of_an_accumulated_step_go(part: str) -> None:
    finite = FiniteSteps()
    changes = train(PoisonedTask([2], part), finite, accumulate_grad_batches=2)
    assert [bool(changed) for changed in changes.changed] == [True, False, True, True, True, True]
    assert finite.skipped == 1


def float16(scale: float = 2.0**16) -> MixedPrecision:
    """On a CPU too, for which the Trainer's ``precision`` does not offer it."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


@pytest.mark.parametrize("part", PARTS)
def test_with_the_loss_scaling_of_float16(part: str) -> None:
    finite = FiniteSteps()
    task = PoisonedTask([3, 6], part)
    changes = train(task, finite, plugins=[float16(64.0)])
    assert [step for step, changed in enumerate(changes.changed) if not changed] == [3, 6]
    assert finite.skipped == 2


def test_a_scale_that_is_too_large_is_no_fault_of_the_epoch() -> None:
    class Steep(tiny_recipe.TinyTask):
        def loss(self, batch: Any) -> torch.Tensor:
            return 100 * super().loss(batch)  # at the first scales, beyond float16

    finite = FiniteSteps()
    changes = train(Steep(optimiser=OptimiserConfig(max_skipped_share=0.0)), finite, plugins=[float16()])
    assert 0 < finite.skipped < len(changes.changed)


@pytest.mark.parametrize("part", PARTS)
def test_looking_late_changes_no_more_than_when_the_schedule_pauses(part: str) -> None:
    finite = FiniteSteps(look_every=4)
    task = PoisonedTask([1, 6], part)
    changes = train(task, finite)
    untouched = [not changed & {"model", "moments"} for changed in changes.changed]
    assert [step for step, bad in enumerate(untouched) if bad] == task.bad
    assert finite.skipped == 2
    assert changes.before["schedule"] == 8


@pytest.mark.parametrize("part", PARTS)
def test_another_optimiser_is_kept_from_its_step_too(part: str) -> None:
    class Momentum(PoisonedTask):
        def configure_optimizers(self) -> Any:
            optimiser = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
            return [optimiser], [torch.optim.lr_scheduler.ConstantLR(optimiser)]

    changes = train(Momentum([1, 8], part), FiniteSteps())
    still = [step for step, changed in enumerate(changes.changed) if not changed & {"model", "moments"}]
    assert still == [1, 8]


def test_a_run_of_bad_steps_ends_it() -> None:
    limit = OptimiserConfig(max_skipped_in_a_row=3, max_skipped_share=1.0)
    train(PoisonedTask([1, 2, 4, 5, 7, 8], optimiser=limit), FiniteSteps())
    message = "the training loss became nan at step 6, and 3 steps in a row were skipped"
    with pytest.raises(UserError, match=message):
        train(PoisonedTask([4, 5, 6], optimiser=limit), FiniteSteps())
    with pytest.raises(UserError, match="the norm of the gradient became nan at step 6, and 3 steps"):
        train(PoisonedTask([4, 5, 6], "gradient", optimiser=limit), FiniteSteps(look_every=4))


def test_an_epoch_of_mostly_bad_steps_ends_the_run() -> None:
    train(PoisonedTask([1, 3]), FiniteSteps())
    message = "the training loss became inf at step 9, and 3 of the 5 steps of an epoch were skipped"
    with pytest.raises(UserError, match=message):
        train(PoisonedTask([5, 7, 9], "loss"), FiniteSteps())


def test_many_bad_steps_get_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    task = PoisonedTask(list(range(0, 40, 2)), "loss")
    data = TinyData(rows=40, batch_size=1)
    task.net[1] = nn.Identity()  # a batch norm needs more than one row
    finite = FiniteSteps()
    L.Trainer(callbacks=[finite], **{**TRAINER, "max_epochs": 1}).fit(task, data)
    lines = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert (finite.skipped, len(lines)) == (20, 10)
    assert lines[-1] == "step 18 skipped: the training loss became inf; more of this epoch are only counted"


def test_a_recipe_reports_and_goes_on(tmp_path: Path) -> None:
    recipe = tiny_recipe.recipe(tmp_path, poison={"bad": [3, 10]})
    assert fit(recipe) == 0, (tmp_path / "log.txt").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert "step 3 skipped: the training loss became nan" in log
    assert "train/skipped 1  val/loss" in log
    with (tmp_path / "run/metrics.csv").open() as file:
        counts = [float(row["train/skipped"]) for row in csv.DictReader(file) if row["train/skipped"]]
    assert counts == [1, 1, 2, 2]


def test_a_recipe_ends_after_too_many(tmp_path: Path) -> None:
    recipe = tiny_recipe.recipe(tmp_path, poison={"bad": [6, 7], "part": "gradient"})
    assert fit(recipe, "--model.init_args.optimiser.max_skipped_in_a_row", "2") == 2
    log = (tmp_path / "log.txt").read_text()
    assert "error: the norm of the gradient became nan at step 7, and 2 steps in a row were skipped" in log
    assert "hint: lower model.init_args.optimiser.lr" in log


def test_the_counts_of_a_killed_run_go_on(tmp_path: Path) -> None:
    poison = {"bad": [3, 6, 12], "part": "gradient"}
    whole = tiny_recipe.recipe(tmp_path / "whole", poison=poison)
    assert fit(whole) == 0
    broken = tiny_recipe.recipe(tmp_path / "broken", poison=poison)
    assert fit(broken, struck("batch 3")) == -signal.SIGKILL
    assert fit(broken, "--ckpt_path", "last") == 0, (broken.parent / "log.txt").read_text()
    assert differences(outcome(broken), outcome(whole)) == []
    last = torch.load(whole.parent / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["callbacks"]["FiniteSteps"] == {"skipped": 3, "in_a_row": 0}


class Report(L.Callback):
    """Saves each process's weights and count at the end."""

    def __init__(self, folder: Path, finite: FiniteSteps) -> None:
        self.folder, self.finite = folder, finite

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        found = {"weights": dict(pl_module.named_parameters()), "skipped": self.finite.skipped}
        torch.save(found, self.folder / f"rank{trainer.global_rank}.pt")


def train_in_two_processes(folder: Path, part: str) -> None:
    torch.set_num_threads(1)
    finite = FiniteSteps()
    callbacks = [finite, EpochLines(), Report(folder, finite)]
    with (folder / "log.txt").open("w") as log:
        sys.stderr = log
        trainer = L.Trainer(strategy="ddp_fork", devices=2, callbacks=callbacks, **TRAINER)
        trainer.fit(PoisonedTask([1, 4], part, rank=1), TinyData())


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_all_processes_skip_what_is_bad_in_one(tmp_path: Path, part: str) -> None:
    child = FORKS.Process(target=train_in_two_processes, args=(tmp_path, part))
    child.start()
    child.join(60)
    log = (tmp_path / "log.txt").read_text()
    assert child.exitcode == 0, log
    assert [line.split(":")[0] for line in log.splitlines() if " skipped: " in line] == [
        "step 1 skipped",
        "step 4 skipped",
    ]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["skipped"] == second["skipped"] == 2
    for name, weight in first["weights"].items():
        assert weight.isfinite().all(), name
        assert torch.equal(weight, second["weights"][name]), name


@pytest.mark.gpu
@pytest.mark.parametrize("bad", [False, True])
def test_a_gpu_decides_alone(bad: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)).cuda()
    optimiser, schedule = build_optimiser(model, OptimiserConfig(), 10)
    finite = FiniteSteps()
    module: Any = SimpleNamespace(device=torch.device("cuda"), buffers=model.buffers)
    trainer: Any = SimpleNamespace(
        global_step=0,
        is_global_zero=True,
        precision_plugin=None,
        lr_scheduler_configs=[SimpleNamespace(scheduler=schedule)],
    )
    finite.on_train_start(trainer, module)

    def step(factor: float) -> None:
        loss = model(factor * torch.randn(16, 4, device="cuda")).square().mean()
        finite.on_before_backward(trainer, module, loss)
        loss.backward()
        finite.on_before_optimizer_step(trainer, module, optimiser)
        optimiser.step()
        optimiser.zero_grad()

    step(1.0)  # the moments are made in the first
    before = copy.deepcopy([model.state_dict(), optimiser.state_dict()["state"]])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(torch.nan if bad else 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    after = [model.state_dict(), optimiser.state_dict()["state"]]
    assert all(same(dict(a), dict(b)) for a, b in zip(before, after, strict=True)) == bad
    finite._look(trainer, OptimiserConfig())
    assert (finite.skipped, schedule.owed) == (int(bad), int(bad))
