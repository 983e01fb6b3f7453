"""An exponential moving average of the weights, which validation and the best checkpoint use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seqmamba.errors import UserError
from seqmamba.training.sharding import let_go, share_like, whole

_STATE = "weight_average"


class WeightAverage(L.Callback):
    """Keeps an exponential moving average of the weights beside those that are trained.

    Validation sees the average, and so do ``best.ckpt`` and the exported model; training goes on with its own
    weights (Polyak & Juditsky 1992; Morales-Brotons et al. 2024, arXiv:2411.18704). ``last.ckpt`` holds both,
    so a resumed run is the one that was interrupted. Buffers of real numbers, such as batch norm's, are
    averaged like weights. Put it under ``trainer.callbacks``.

    After n updates the average forgets no slower than with a decay of (1 + n) / (10 + n): a short run is not
    held back by the weights that it began with.

    Args:
        decay: What each optimiser step keeps of the average; it looks back about 1 / (1 - decay) steps.

    Raises:
        UserError: If it is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise UserError(f"WeightAverage: decay: expected a number between 0 and 1, got {decay}")
        self.decay = decay
        self._updates = 0
        self._seen_step = 0
        self._average: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with the weights as they are, or lay what was loaded beside them."""
        self._seen_step = trainer.global_step
        self._average = {
            name: share_like(self._average.get(name, tensor).detach(), tensor).to(tensor.device, copy=True)
            for name, tensor in _averaged(pl_module).items()
        }

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the weights after each optimiser step."""
        self._follow(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average."""
        if _has_average(trainer):
            self._swap(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go back to the weights that are trained."""
        if _has_average(trainer):
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the average in a checkpoint to resume from."""
        # One from the middle of an epoch may be written before this callback's turn in its step.
        self._follow(trainer, pl_module)
        average = {name: whole(tensor) for name, tensor in self._average.items()}
        checkpoint[_STATE] = {"updates": self._updates, "average": average}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the average of the run that goes on."""
        if _STATE in checkpoint:
            self._updates = checkpoint[_STATE]["updates"]
            self._average = dict(checkpoint[_STATE]["average"])

    @contextmanager
    def applied(self, pl_module: L.LightningModule) -> Iterator[None]:
        """Give the module the averaged weights for a while.

        Args:
            pl_module: The module that is trained.
        """
        self._swap(pl_module)
        try:
            yield
        finally:
            self._swap(pl_module)

    def _follow(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take in the last optimiser step, once; there is none while gradients are accumulated."""
        if trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        self._updates += 1
        move, weights = get_ema_multi_avg_fn(decay), _averaged(pl_module)
        for shared_out in (False, True):  # no operator takes both kinds at once
            names = [name for name, weight in weights.items() if isinstance(weight, DTensor) == shared_out]
            if names:
                averages = [self._average[name] for name in names]
                move(averages, [weights[name].detach() for name in names], self._updates)

    @torch.no_grad()
    def _swap(self, pl_module: L.LightningModule) -> None:
        for name, weight in _averaged(pl_module).items():
            kept = weight.clone()
            weight.copy_(self._average[name])
            self._average[name].copy_(kept)


def _has_average(trainer: L.Trainer) -> bool:
    """Say whether a validation is one of training; Lightning's check before it has no average yet."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


@contextmanager
def validated_weights(trainer: L.Trainer, pl_module: L.LightningModule) -> Iterator[None]:
    """Give a module the weights that its validation sees: the average where one is kept.

    Args:
        trainer: Its trainer.
        pl_module: The module that is trained.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    average = next((each for each in callbacks if isinstance(each, WeightAverage)), None)
    if average is None:
        yield
    else:
        with average.applied(pl_module):
            yield


def _averaged(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return the parameters and the buffers of real numbers by name; of what is shared out, the shares."""
    let_go(module)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
