"""The average of the weights is what is validated and kept; a resumed run ends in the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_recipe
import torch
from processes import fit

from seqmamba.errors import UserError
from seqmamba.training.recipe import run_recipe
from seqmamba.training.weight_average import WeightAverage

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

AVERAGE = (
    "--trainer.callbacks+={class_path: seqmamba.training.weight_average.WeightAverage, "
    "init_args: {decay: 0.8}}"
)


class Recorder(tiny_recipe.TinyTask):
    """Keeps the weights after each step and those that were validated."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.steps.append(self.head.weight.detach().clone())

    def on_validation_epoch_start(self) -> None:
        self.validated.append(self.head.weight.detach().clone())


def average(steps: list[torch.Tensor], start: torch.Tensor, decay: float) -> torch.Tensor:
    value = start
    for n, weights in enumerate(steps):
        share = min(decay, (1 + n) / (10 + n))
        value = share * value + (1 - share) * weights
    return value


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)


@pytest.mark.parametrize("validation", [True, False])
def test_the_average_takes_the_place_of_the_weights_in_all_that_is_kept(
    tmp_path: Path, validation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_recipe, "TinyTask", Recorder)
    trainer = {"max_epochs": 2, "num_sanity_val_steps": 0}
    trainer |= {} if validation else {"limit_val_batches": 0}
    recipe = tiny_recipe.recipe(tmp_path, trainer=trainer)
    done = run_recipe(["fit", "--config", str(recipe), AVERAGE])
    task, folder = done.model, tmp_path / "run"
    last = checkpoint(folder, "last.ckpt")
    kept = next(state for name, state in last["callbacks"].items() if "WeightAverage" in name)
    # the weights to go on with are those after the last step, and what is kept is their average
    assert torch.equal(kept["spare"]["head.weight"], task.steps[-1])
    # each average follows from the one before it, wherever the first began
    start = (last["state_dict"]["head.weight"] - average(task.steps, torch.zeros(1), 0.8)) / average(
        [torch.zeros(1)] * len(task.steps), torch.ones(1), 0.8
    )
    if validation:
        assert len(task.validated) == 2
        assert torch.allclose(task.validated[0], average(task.steps[:5], start, 0.8), atol=1e-5)
        assert torch.equal(task.validated[1], last["state_dict"]["head.weight"])
    best = checkpoint(folder, "best.ckpt")["state_dict"]["head.weight"]
    assert any(
        torch.equal(best, weights) for weights in (task.validated or [last["state_dict"]["head.weight"]])
    )
    assert (folder / "pretrained/weight.txt").read_text() == repr(best.tolist())


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, broken = (tiny_recipe.recipe(tmp_path / name) for name in ("whole", "broken"))
    assert fit(whole, AVERAGE) == 0
    stop = "{class_path: tiny_recipe.SignalAt, init_args: {moment: batch 2, epoch: 2, signal: 9}}"
    assert fit(broken, AVERAGE, f"--trainer.callbacks+={stop}") != 0
    assert fit(broken, AVERAGE, "--ckpt_path", "last") == 0
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (checkpoint(recipe.parent / "run", name)["state_dict"] for recipe in (whole, broken))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_an_average_can_begin_late_and_not_with_that_of_another_model(tmp_path: Path) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    run_recipe(["fit", "--config", str(recipe), "--trainer.max_epochs", "1"])
    run_recipe(["fit", "--config", str(recipe), AVERAGE, "--ckpt_path", "last"])
    states = checkpoint(tmp_path / "run", "last.ckpt")["callbacks"]
    kept = next(state for name, state in states.items() if "WeightAverage" in name)
    assert kept["updates"] == 15
    callback = WeightAverage()
    callback.load_state_dict(kept | {"spare": {"other": torch.zeros(1)}})
    with pytest.raises(UserError, match="holds the average of another model"):
        callback.on_fit_start(None, tiny_recipe.TinyTask())  # type: ignore[arg-type]


def test_bad_decays_are_named() -> None:
    with pytest.raises(UserError, match=r"decay: expected a number in \[0, 1\), got 1"):
        WeightAverage(1)
