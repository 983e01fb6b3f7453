"""An average of the weights over the last steps, which is validated and kept in place of the weights."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require


class WeightAverage(L.Callback):
    """Keeps an exponential moving average of all weights (Polyak & Juditsky 1992) and of the buffers.

    Training goes on with the weights themselves. The average takes their place for validation, for both
    checkpoints and at the end, so the best model, its export and every test are those of the average. The
    weights to go on with are kept in ``last.ckpt`` beside it.

    The first steps count for more: step n has the decay ``min(decay, (1 + n) / (10 + n))``.

    Args:
        decay: Share of the average that a step keeps, late in training.

    Raises:
        UserError: If the decay is no number between 0 and 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        require(is_number(decay) and 0 <= decay < 1, "decay", "a number in [0, 1)", decay)
        self.decay = decay
        self._updates = 0
        self._spare: dict[str, Tensor] = {}  # the average in training, the weights while it takes their place
        self._in_place = False

    def state_dict(self) -> dict[str, Any]:
        """Return what is not in the module, and which of the two that is."""
        return {"updates": self._updates, "in_place": self._in_place, "spare": dict(self._spare)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._updates, self._in_place = state_dict["updates"], state_dict["in_place"]
        self._spare = dict(state_dict["spare"])

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with the weights as they are, unless a run goes on that kept an average.

        Raises:
            UserError: If that is the average of another model.
        """
        now = _values(pl_module)
        if not self._spare:
            self._spare = {name: value.clone() for name, value in now.items()}
            return
        if self._spare.keys() != now.keys():
            raise UserError("WeightAverage: the checkpoint holds the average of another model")
        self._spare = {name: value.to(now[name].device) for name, value in self._spare.items()}

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Train the weights themselves."""
        self._swap(pl_module, in_place=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights into the average."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        self._updates += 1
        now = _values(pl_module)
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self._spare[name] for name in floats], [now[name] for name in floats], 1 - decay
        )
        for name in now.keys() - set(floats):
            self._spare[name].copy_(now[name])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average; the best checkpoint is written after this."""
        if trainer.state.fn == "fit":
            self._swap(pl_module, in_place=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the average into the checkpoints of the epoch."""
        self._swap(pl_module, in_place=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the module."""
        self._swap(pl_module, in_place=True)

    def _swap(self, module: L.LightningModule, *, in_place: bool) -> None:
        """Exchange the weights and the average unless they are where they should be."""
        if self._in_place == in_place or not self._spare:
            return
        for name, value in _values(module).items():
            kept = value.clone()
            value.copy_(self._spare[name])
            self._spare[name].copy_(kept)
        self._in_place = in_place


def _values(module: L.LightningModule) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint would hold, without their graph."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
