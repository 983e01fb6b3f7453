"""What happens around the steps: seeds, the export of the best model, a line an epoch."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from typing import Any

import lightning as L
import numpy as np
import torch

from seqmamba.atomic import atomic_folder
from seqmamba.training.checkpoints import read_checkpoint
from seqmamba.training.run_folder import RunFolder
from seqmamba.training.sharding import ShardedStrategy
from seqmamba.training.task import Task


class EpochSeeds(L.Callback):
    """Makes every epoch a pure function of the state at its start.

    All random number generators (torch on every device, numpy, Python) are set from (seed, epoch, rank)
    when an epoch begins. So an epoch that a killed run left unfinished is replayed exactly, whatever start-up
    (initialisation, sanity check) drew before, and no generator states need to be stored.

    Args:
        seed: The run's seed. The one in the checkpoint wins on resume.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, to be kept in the checkpoint."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the seed of the run that goes on."""
        self.seed = state_dict["seed"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set all generators; on resume, restart the loader under this epoch's order and seeds."""
        seed_everything(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))
        if trainer.fit_loop.is_resuming:
            # Lightning made the loader's iterator before it told the sampler which epoch it is, and keeps it
            # for the first epoch after a resume. Worker processes would already be busy with the
            # batches of epoch 0.
            iter(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]


def run_seed(trainer: L.Trainer) -> int | None:
    """Return the seed of a trainer's run; None where nothing sets the generators."""
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    return next((each.seed for each in callbacks if isinstance(each, EpochSeeds)), None)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Return a 32-bit seed that mixes its arguments, so that neighbouring seeds share no epoch's numbers."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{rank}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seed_everything(seed: int) -> None:
    """Set the generators of Python, numpy (the legacy global one) and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries draw from this one
    torch.manual_seed(seed)


class PretrainedExport(L.Callback):
    """Writes the best model to ``RUN/pretrained`` (safetensors and config.json) when training is complete.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Load the best weights and export them; the module keeps them."""
        # on_fit_end and not on_train_end, which Lightning skips when a resumed run has nothing left to train.
        if not isinstance(pl_module, Task) or pl_module.exported is None or not self.folder.best.exists():
            return
        if isinstance(trainer.strategy, ShardedStrategy):
            trainer.strategy.gather_model()
        pl_module.load_state_dict(read_checkpoint(self.folder.best)["state_dict"])
        if trainer.is_global_zero:
            with atomic_folder(self.folder.pretrained) as part:
                pl_module.exported.save_pretrained(part)  # type: ignore[operator]


class EpochLines(L.Callback):
    """Prints a line an epoch to stderr."""

    def __init__(self) -> None:
        self._start = time.monotonic()  # of a run that goes on in the middle of an epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the metrics of the epoch."""
        metrics = trainer.callback_metrics  # read by every process, as their means are taken over all
        if not trainer.is_global_zero:
            return
        values = "  ".join(
            f"{name} {float(value):.4g}"
            for name, value in sorted(metrics.items())
            if not (name.endswith(("_step", "_epoch", "/seconds")) or (name == "train/skipped" and not value))
        )
        seconds = time.monotonic() - self._start
        total = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        print(
            f"epoch {trainer.current_epoch + 1}{total}  {values}  {seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
