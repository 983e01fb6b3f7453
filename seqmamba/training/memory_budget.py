"""Runs that stay in a given amount of GPU memory."""

from __future__ import annotations

import sys
from typing import Any

import lightning as L

from seqmamba.backbones.isotropic import BlockStack
from seqmamba.backbones.memory_budget import set_memory_budget
from seqmamba.errors import UserError
from seqmamba.memory import parse_bytes


class MemoryBudget(L.Callback):
    """Lets the backbones of a task keep as much for the backward pass as fits; see `set_memory_budget`.

    What that comes to for the first batch is said in a line.

    Args:
        budget: Of each GPU, as in ``40GiB``.

    Raises:
        UserError: If it is no amount of memory.
    """

    def __init__(self, budget: str) -> None:
        self.budget = parse_bytes(budget, "--memory_budget")
        self._stacks: list[BlockStack] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the budget to the backbones, which are there by now.

        Raises:
            UserError: If the run is not on a GPU, or has no backbone.
        """
        device = trainer.strategy.root_device
        if device.type != "cuda":
            raise UserError(
                f"--memory_budget: expected a run on a GPU, got one on {device}",
                hint="leave it out; backbone.checkpoint_activations saves memory anywhere",
            )
        self._stacks = [module for module in pl_module.modules() if isinstance(module, BlockStack)]
        if not self._stacks:
            raise UserError(f"--memory_budget: {type(pl_module).__name__} has no backbone to save memory in")
        set_memory_budget(pl_module, self.budget)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Say what the first batch took."""
        if self._stacks and trainer.is_global_zero:
            plans = [stack.memory.last for stack in self._stacks if stack.memory and stack.memory.last]
            layers = sum(len(stack.layers) for stack in self._stacks)
            again, scans, host = (
                sum(getattr(each, name) for each in plans) for name in ("recomputed", "scans", "offloaded")
            )
            spares = ", mixers spare memory" if any(each.spares for each in plans) else ""
            print(
                f"memory: {again} of {layers} blocks run again in the backward pass, {scans} of them but for "
                f"their scans, the inputs of {host} are in host memory{spares}; a budget of "
                f"{self.budget / 2**30:.1f} GiB",
                file=sys.stderr,
            )
        self._stacks = []
