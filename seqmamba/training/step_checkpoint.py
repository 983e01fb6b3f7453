"""Checkpoints from the middle of an epoch, for epochs that take hours."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import lightning as L

from seqmamba.errors import UserError
from seqmamba.training.callbacks import epoch_seed, run_seed, seed_everything
from seqmamba.training.run_folder import RunFolder


@runtime_checkable
class _Resumable(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class StepCheckpoint(L.Callback):
    """Writes ``last.ckpt`` every so many steps, so that a killed run loses no more than these.

    The loader of the training batches must know its place (``state_dict``, ``load_state_dict``). All random
    number generators are set at every step, from the run's seed, the epoch, the device and the step; so the
    resumed run is the one that was killed.

    Nothing is written at the end of an epoch, which has its own checkpoint, nor before a validation in the
    middle of one.

    Args:
        every_n_steps: Optimiser steps from one checkpoint to the next. A multiple of 50 on a GPU, where the
            skipped steps are looked at that often.

    Raises:
        UserError: If it is not a positive number.
    """

    def __init__(self, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise UserError(f"every_n_steps: expected a positive number, got {every_n_steps}")
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuse a loader that cannot go on in the middle.

        Raises:
            UserError: If there is one.
        """
        loaders: Any = trainer.train_dataloader
        if not isinstance(loaders, _Resumable):
            raise UserError(
                f"StepCheckpoint: {type(loaders).__name__} does not know its place in an epoch",
                hint="leave it out of trainer.callbacks: runs are resumed from the end of an epoch then",
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the generators of the step."""
        seed = epoch_seed(run_seed(trainer) or 0, trainer.current_epoch, trainer.global_rank)
        seed_everything(epoch_seed(seed, batch_idx))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is time."""
        done = batch_idx + 1
        accumulated = trainer.accumulate_grad_batches
        if done % accumulated or (done // accumulated) % self.every_n_steps:
            return
        validates = trainer.val_check_batch
        before_validation = isinstance(validates, int) and validates > 0 and done % validates == 0
        if not (before_validation or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch):
            trainer.save_checkpoint(RunFolder.of(trainer).last)
