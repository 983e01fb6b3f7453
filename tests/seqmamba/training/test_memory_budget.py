"""Runs in a memory budget: what the option takes, and what it says where it cannot work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import processes
import pytest
import tiny_recipe
import torch
from torch import nn

from seqmamba.backbones import Backbone, BackboneConfig, MultiScaleBackbone, MultiScaleConfig
from seqmamba.backbones.activations import ActivationPlan, StackMemory
from seqmamba.backbones.memory_budget import set_memory_budget
from seqmamba.errors import UserError
from seqmamba.memory import parse_bytes
from seqmamba.training.memory_budget import MemoryBudget


@pytest.mark.parametrize(
    ("text", "amount"),
    [("40GiB", 40 * 2**30), ("1.5 g", 1_500_000_000), ("500MB", 5 * 10**8), (4096, 4096), ("2Ti", 2**41)],
)
def test_amounts_of_memory(text: str | int, amount: int) -> None:
    assert parse_bytes(text, "x") == amount


@pytest.mark.parametrize("text", ["much", "", "0", "-3GiB", "40 GiBs", "1e3"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(UserError, match="--memory_budget: expected an amount of memory such as 40GiB"):
        MemoryBudget(text)


def trainer(kind: str) -> SimpleNamespace:
    strategy = SimpleNamespace(root_device=torch.device(kind))
    return SimpleNamespace(strategy=strategy, is_global_zero=True)


def test_needs_a_gpu_and_a_backbone() -> None:
    with pytest.raises(UserError, match="expected a run on a GPU, got one on cpu"):
        MemoryBudget("1GiB").on_fit_start(trainer("cpu"), nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Linear has no backbone"):
        MemoryBudget("1GiB").on_fit_start(trainer("cuda"), nn.Linear(1, 1))  # type: ignore[arg-type]


def test_what_the_first_batch_took_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    budget, backbone = MemoryBudget("2GiB"), Backbone(BackboneConfig(4, 3))
    budget.on_fit_start(trainer("cuda"), backbone)  # type: ignore[arg-type]
    assert backbone.memory is not None
    backbone.memory.last = ActivationPlan(recomputed=2, offloaded=1, scans=1, spares=True)
    for _ in range(2):
        budget.on_train_batch_end(trainer("cuda"))  # type: ignore[arg-type]
    assert capsys.readouterr().err == (
        "memory: 2 of 3 blocks run again in the backward pass, 1 of them but for their scans, the inputs of "
        "1 are in host memory, mixers spare memory; a budget of 2.0 GiB\n"
    )


def test_stages_share_what_is_free_in_the_order_in_which_they_run() -> None:
    backbone = MultiScaleBackbone(MultiScaleConfig(BackboneConfig(8, 2), pool=(4,), sides="both"))
    set_memory_budget(backbone, 1000)
    stacks = [backbone.down[0], backbone.centre, backbone.up[0]]
    assert all(isinstance(stack.memory, StackMemory) for stack in stacks)
    shares = [stack.memory.share for stack in stacks]  # type: ignore[union-attr]
    fine = 8 * 2
    coarse = stacks[1].config.d_model * stacks[1].config.n_layers / 4  # type: ignore[union-attr]
    assert shares == pytest.approx([fine / (2 * fine + coarse), coarse / (coarse + fine), 1.0])
    set_memory_budget(backbone, None)
    assert all(stack.memory is None for stack in stacks)


def test_a_recipe_on_a_cpu_says_so(tmp_path: Path) -> None:
    log, recipe = tmp_path / "log", tiny_recipe.recipe(tmp_path)
    assert processes.run(["fit", "--config", str(recipe), "--memory_budget", "4GiB"], log=log) == 2
    assert "error: --memory_budget: expected a run on a GPU, got one on cpu" in log.read_text()
