"""The base of tasks whose epochs take hours, so that runs go on in the middle of one."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.training.task import Task

_SUMS = "train_sums"


class StreamedTask(Task):
    """A task whose mean loss of an epoch goes on where it was, on any number of devices.

    A subclass calls `log_loss` in each training step.
    """

    _train_sums: Tensor | None = None

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's mean loss."""
        self._train_sums = None

    def log_loss(self, loss: Float[Tensor, ""], samples: float) -> None:
        """Add a batch's loss to the mean of the epoch, which is logged as ``train/loss`` at its end.

        Args:
            loss: Of this device's batch.
            samples: What it weighs: samples of the batch, or this device's share of them.
        """
        if self._trainer is None:  # a step by itself logs nothing, as with Lightning's own `log`
            return
        own = loss.detach().double()
        done = samples * torch.stack((own, torch.ones_like(own)))
        self._train_sums = done if self._train_sums is None else self._train_sums.to(done.device) + done
        if self.trainer.is_last_batch:
            total = self._sums_of_all()
            assert total is not None
            # the same everywhere, so that its mean over the devices, which Lightning wants, changes nothing
            mean = total[0] / total[1]
            self.log("train/loss", mean, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the sums of an epoch that is not over. Every device must ask."""
        total = self._sums_of_all()
        checkpoint[_SUMS] = None if total is None else total.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back, on the first device, as they are those of all."""
        sums = checkpoint.get(_SUMS)
        self._train_sums = sums if sums is None or self.trainer.is_global_zero else torch.zeros_like(sums)

    def _sums_of_all(self) -> Tensor | None:
        if self._train_sums is None:
            return None
        sums = self._train_sums.to(self.device, copy=True)  # as they are added up in place
        total: Tensor = self.trainer.strategy.reduce(sums, reduce_op="sum")
        return total
