"""A task and a data module that train in a moment and have every source of randomness of real ones."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from seqmamba import atomic
from seqmamba.training.optimisation import OptimiserConfig
from seqmamba.training.task import Task


class Export(nn.Linear):
    def save_pretrained(self, folder: Path) -> None:
        (Path(folder) / "weight.txt").write_text(repr(self.weight.tolist()))


class TinyTask(Task):
    def __init__(self, width: int = 8, optimiser: OptimiserConfig | None = None) -> None:
        super().__init__(optimiser)
        self.record_hyperparameters(width=width, optimiser=self.optimiser_config)
        self.net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.GELU())
        self.head = Export(width, 1)

    @property
    def exported(self) -> nn.Module:
        return self.head

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.head(self.net(x)), y)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.loss(batch))


class PoisonedTask(TinyTask):
    """A TinyTask of which some training batches, counted over the run, are no good.

    Args:
        bad: Which.
        part: What is not finite: the ``input`` and so all, the ``loss`` only, or the ``gradient`` only.
        rank: The one process that meets them; None: each.
        optimiser: As a Task takes it.
    """

    def __init__(
        self,
        bad: list[int],
        part: str = "input",
        rank: int | None = None,
        optimiser: OptimiserConfig | None = None,
    ) -> None:
        super().__init__(optimiser=optimiser)
        self.bad, self.part, self.rank = bad, part, rank

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        done = self.trainer.current_epoch * int(self.trainer.num_training_batches)
        if done + batch_idx not in self.bad or self.rank not in (None, self.global_rank):
            return super().training_step(batch, batch_idx)
        if self.part == "input":
            return super().training_step((x * torch.nan, y), batch_idx)
        loss = super().training_step(batch, batch_idx)
        return loss + torch.inf if self.part == "loss" else loss + (0 * self.head.weight.sum()).sqrt()


class NoisyRows(Dataset):
    """Rows whose augmentation draws from torch's global generator, as a worker would see it."""

    def __init__(self, rows: int, augment: bool) -> None:
        self.x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))
        self.augment = augment

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.x[index]
        noise = 0.1 * torch.randn(4) if self.augment else torch.zeros(4)
        return x + noise, x.sum(0, keepdim=True)


class EpochOrder(torch.utils.data.Sampler):
    """A shuffled order that is a function of the epoch only."""

    def __init__(self, rows: int) -> None:
        self.rows, self.epoch = rows, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self):
        # Not a generator: the order is fixed as soon as an iterator is asked for, as prefetching workers do.
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order.tolist())


class TinyData(L.LightningDataModule):
    def __init__(self, rows: int = 40, batch_size: int = 8, num_workers: int = 0) -> None:
        super().__init__()
        self.rows, self.batch_size, self.num_workers = rows, batch_size, num_workers

    def train_dataloader(self) -> DataLoader:
        data = NoisyRows(self.rows, augment=True)
        # Forked workers: the test's own processes come from a fork server, where new ones are slow to start.
        context = "fork" if self.num_workers else None
        order = EpochOrder(self.rows)
        return DataLoader(
            data,
            self.batch_size,
            sampler=order,
            num_workers=self.num_workers,
            multiprocessing_context=context,
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(NoisyRows(16, augment=False), 8)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()


class SignalAt(L.Callback):
    """Sends this process, or those that load its data, a signal at a chosen moment of a chosen epoch."""

    def __init__(self, moment: str, epoch: int = 1, signal: int = 9, workers: bool = False) -> None:
        self.moment, self.epoch, self.signal, self.workers = moment, epoch, signal, workers

    def strike(self, moment: str, epoch: int) -> None:
        if moment == self.moment and epoch == self.epoch:
            workers = [worker.pid for worker in multiprocessing.active_children()]
            for process in workers if self.workers else [os.getpid()]:
                os.kill(process, self.signal)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        rename = os.replace

        def struck_rename(source: Path, target: Path) -> None:
            self.strike(f"before {Path(target).name}", trainer.current_epoch)
            rename(source, target)
            self.strike(f"after {Path(target).name}", trainer.current_epoch)

        atomic.os = SimpleNamespace(**{**vars(os), "replace": struck_rename})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.strike(f"batch {batch_idx}", trainer.current_epoch)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.strike("validation", trainer.current_epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.strike("train end", trainer.current_epoch - 1)


def recipe(
    folder: Path,
    *,
    workers: int = 0,
    trainer: dict[str, Any] | None = None,
    poison: dict[str, Any] | None = None,
) -> Path:
    """Write a recipe of four epochs of five steps, of a `PoisonedTask` if there is a poison."""
    content = {
        "seed_everything": 3,
        "run": str(folder / "run"),
        "model": {
            "class_path": "tiny_recipe.PoisonedTask" if poison else "tiny_recipe.TinyTask",
            "init_args": {"optimiser": {"lr": 0.01}, **(poison or {})},
        },
        "data": {"class_path": "tiny_recipe.TinyData", "init_args": {"num_workers": workers}},
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "log_every_n_steps": 2, **(trainer or {})},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
