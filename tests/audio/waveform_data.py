"""Sines of two pitches, one class each, as a data module."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from audio.batches import WaveformBatch

RATE = 1000


class SinesDataModule(L.LightningDataModule):
    """Sines with some noise, of 40 to 60 ms, padded to the longest; half of them low, half high.

    Args:
        n: How many; a quarter each for validation and test.
        batch_size: Recordings in a batch.
        channels: Channels of each.
    """

    task, rate = "classification", RATE
    classes = ("high", "low")
    explanation, notes = "", ()

    def __init__(self, n: int = 16, batch_size: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.channels, self.batch_size = channels, batch_size
        generator = torch.Generator().manual_seed(0)
        self.lengths = torch.randint(40, 61, (n,), generator=generator)
        self.labels = np.arange(n) % 2
        periods = torch.tensor([8.0, 25.0])[torch.from_numpy(self.labels)]
        phases = torch.rand(n, 1, generator=generator)
        sines = 0.5 * torch.sin(2 * torch.pi * (torch.arange(60) / periods[:, None] + phases))
        self.waveforms = sines[..., None].repeat(1, 1, channels)
        for row, length in enumerate(self.lengths):
            self.waveforms[row, length:] = 0
        self.max_length = 60
        self.names = [f"sine{i}" for i in range(n)]
        self.seconds = self.lengths.numpy() / RATE
        self.assignment = np.array(["train", "train", "validation", "test"] * (n // 4))

    def _loader(self, part: str, shuffle: bool = False) -> DataLoader[int]:
        rows = np.flatnonzero(self.assignment == part).tolist()
        return DataLoader(rows, self.batch_size, shuffle=shuffle, collate_fn=self._batch)

    def _batch(self, rows: list[int]) -> WaveformBatch:
        index = torch.tensor(rows)
        target = torch.from_numpy(self.labels)[index]
        return WaveformBatch(self.waveforms[index], self.lengths[index], target, index)

    def train_dataloader(self) -> DataLoader[int]:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[int]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[int]:
        return self._loader("test")
