"""Checkpoints: written whole, read as data only, and enough to resume exactly."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.training.ema import validated_weights
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.task import Task

_STATE = "seqmamba"


class DataOnlyCheckpointIO(CheckpointIO):
    """Checkpoint files that appear whole or not at all, and that can hold nothing but data."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint atomically."""
        # Through memory, because torch's own file writer turns a full disk into an error without an errno.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_path(path) as part:
            part.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; `weights_only` is ignored, because code inside checkpoints is never run."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint file."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running anything that it may contain.

    Args:
        path: A Lightning checkpoint file.

    Returns:
        Its content, tensors on the CPU.

    Raises:
        UserError: When the file is missing, damaged or altered, holds code or objects, or is no training
            checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint", hint="check the path")
    _verify(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: refused, because it is damaged or holds more than tensors and plain data",
            hint="loading such a file could run code; use one that seqmamba wrote",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: not a readable checkpoint", hint="the file is damaged or incomplete"
        ) from error
    if (
        not isinstance(checkpoint, dict)
        or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys()
    ):
        raise UserError(
            f"{path}: not a training checkpoint", hint="use RUN/checkpoints/last.ckpt or best.ckpt"
        )
    return checkpoint


def _verify(path: Path) -> None:
    """Compare the file's content with the checksums in it, which torch writes but does not look at.

    Files without them, which end too early or are older than torch 1.6, are left to ``torch.load``.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable checkpoint", hint="the file is damaged or incomplete"
        ) from error
    if altered is not None:
        raise UserError(
            f"{path}: refused, because {altered} in it does not match its checksum",
            hint="the file was damaged or altered after it was written",
        )


class RunCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` (all state, every epoch end) and ``best.ckpt`` (weights of the best validation).

    The best weights are written before the state that remembers their score. A run killed in between replays
    the epoch on resume, finds the same weights again and writes the same file.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    @property
    def best_model_path(self) -> str:
        """Path of the best checkpoint, where Lightning looks for it."""
        return str(self.folder.best) if self.folder.best.exists() else ""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """On resume, begin the next epoch, also under ``max_steps``.

        There Lightning takes every checkpoint for one from the middle of an epoch, ends the finished epoch a
        second time and so counts it twice. Ours stand at the end of an epoch, except those of
        `StepCheckpoint`, whose epoch is not counted as processed yet.
        """
        loop = trainer.fit_loop
        current: Any = loop.epoch_progress.current
        mid_epoch = current.processed < current.ready
        if not loop.is_resuming or trainer.max_steps == -1 or mid_epoch:
            return
        for progress in (loop.epoch_progress.current, loop.epoch_progress.total):
            progress.completed = progress.processed  # type: ignore[attr-defined]
        for part in (loop, loop.epoch_loop, loop.epoch_loop.val_loop):
            part.reset_restart_stage()
        loop.epoch_loop.restarting = False
        loop._restarting = False  # its setter would make it true again

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``best.ckpt`` when this validation beats every earlier one."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not isinstance(pl_module, Task):
            return
        value = trainer.callback_metrics.get(pl_module.monitor)
        if value is None:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise UserError(
                f"{type(pl_module).__name__} monitors {pl_module.monitor!r}, but it logged {logged}"
            )
        # The first process decides for all: saving waits for every one, and a score need not be shared.
        score = trainer.strategy.broadcast(float(value))
        if self._beats(score, pl_module.monitor_mode):
            self.best_score, self.best_epoch = score, trainer.current_epoch
            self._save_best(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``last.ckpt``, and ``best.ckpt`` too as long as no validation has picked one."""
        if self.best_score is None:
            self._save_best(trainer, pl_module)
        trainer.save_checkpoint(self.folder.last)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not keep: the best score, and whether early stopping has spoken."""
        checkpoint[_STATE] = {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "stopped": bool(trainer.should_stop),
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take that back; without ``stopped`` a run that had stopped early would train one epoch more."""
        state = checkpoint.get(_STATE, {})
        self.best_score = state.get("best_score")
        self.best_epoch = state.get("best_epoch")
        if trainer.state.fn == "fit" and state.get("stopped"):
            trainer.should_stop = True

    def _save_best(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with validated_weights(trainer, pl_module):
            trainer.save_checkpoint(self.folder.best, weights_only=True)

    def _beats(self, score: float, mode: str) -> bool:
        if math.isnan(score):
            return False
        if self.best_score is None:
            return True
        return score < self.best_score if mode == "min" else score > self.best_score
