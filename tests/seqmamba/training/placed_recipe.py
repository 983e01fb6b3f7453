"""The tiny task, with a loader that knows its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from tiny_recipe import NoisyRows
from torch.utils.data import DataLoader

ROWS = 48


class PlacedOrder(torch.utils.data.Sampler):
    """The rows of an epoch, from a place on; writes down what it gives out."""

    def __init__(self) -> None:
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int) -> None:
        self.start = self.start if epoch == self.epoch else 0
        self.epoch = epoch

    def __len__(self) -> int:
        return ROWS

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(self.epoch))
        yield from order[self.start :].tolist()


class PlacedLoader(DataLoader):
    def __len__(self) -> int:
        return ROWS // 8

    def __iter__(self) -> Iterator[Any]:
        self.done = self.sampler.start
        for batch in super().__iter__():
            self.done += 8
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.sampler.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.epoch, self.sampler.start = state["epoch"], state["done"]


class PlacedData(L.LightningDataModule):
    state: dict[str, int] | None = None

    def train_dataloader(self) -> PlacedLoader:
        self.loader = PlacedLoader(NoisyRows(ROWS, augment=False), 8, sampler=PlacedOrder())
        if self.state:
            self.loader.load_state_dict(self.state)
        return self.loader

    def val_dataloader(self) -> DataLoader:
        return DataLoader(NoisyRows(16, augment=False), 8)

    def state_dict(self) -> dict[str, int]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.state = state


def recipe(folder: Path, strike: str | None = None, **trainer: Any) -> Path:
    """Write a recipe of three epochs of six steps, with a checkpoint every two and perhaps a SIGKILL."""
    callbacks = [
        {
            "class_path": "seqmamba.training.step_checkpoint.StepCheckpoint",
            "init_args": {"every_n_steps": 2},
        }
    ]
    if strike:
        callbacks.append({"class_path": "tiny_recipe.SignalAt", "init_args": {"moment": strike}})
    content = {
        "seed_everything": 3,
        "run": str(folder / "run"),
        "model": {"class_path": "tiny_recipe.TinyTask", "init_args": {"optimiser": {"lr": 0.01}}},
        "data": {"class_path": "placed_recipe.PlacedData"},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "callbacks": callbacks, **trainer},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
