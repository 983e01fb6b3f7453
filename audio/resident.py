"""Labelled recordings that are decoded once and stay in memory, on the GPU that trains where there is one.

For sets of up to a few hours: a batch is then a few short kernels, and training never waits for a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import lightning as L
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audio.batches import WaveformBatch
from audio.copies import copy_groups
from audio.datasets.readable import clip_name, describe_clips
from audio.datasets.reader import ClipReader
from audio.manifests import SourceConfig, find_clips
from audio.splits import SplitConfig, assign
from audio.targets import read_targets
from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole
from seqmamba.training.batching import already_a_batch

_MOST_BYTES = 8 << 30
_MOST_UNREADABLE = 0.5  # share of the recordings, beyond which something else is wrong
_DEFAULT_SPLIT = SplitConfig()
_DEFAULT_FILES = SourceConfig()


class ResidentDataModule(L.LightningDataModule):
    """Recordings with labels, split and batched; see `audio.batches.LabelledWaveforms` for what it offers.

    Recordings that cannot be read are left out, named on stderr and counted in ``notes``.

    Args:
        source: Folder of class folders, or a table; see `audio.manifests.find_clips`.
        files: How the folder or table is read.
        rate: Sampling rate that recordings are brought to, in Hz; None takes that of most of them.
        channels: Channels that they are brought to: 1 averages them.
        task: What the labels mean; ``auto`` is ``classification`` where every recording has one label, else
            ``multilabel``.
        classes: The classes in their order; those of the labels if empty.
        split: How to divide them.
        batch_size: Recordings in a batch.
        passes: Passes over the training part that make an epoch: more than one for sets so small that
            validation and checkpoints would take longer than training.
        seed: Seed of the order of batches.

    Raises:
        UserError: If a value is out of range.
    """

    def __init__(
        self,
        source: str,
        files: SourceConfig = _DEFAULT_FILES,
        rate: int | None = None,
        channels: int = 1,
        task: Literal["auto", "classification", "multilabel", "regression"] = "auto",
        classes: tuple[str, ...] = (),
        split: SplitConfig = _DEFAULT_SPLIT,
        batch_size: int = 64,
        passes: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("batch_size", batch_size), ("passes", passes)):
            require_whole(name, value)
        if rate is not None:
            require_whole("rate", rate)
        require_choice("task", task, ("auto", "classification", "multilabel", "regression"))
        self.source, self.files, self.channels = source, files, channels
        self.requested_rate, self.requested_task, self.split = rate, task, split
        self.batch_size, self.passes, self.seed = batch_size, passes, seed
        self.known_classes = tuple(classes)
        self.notes: list[str] = []
        self._table: _Table | None = None

    def setup(self, stage: str | None = None) -> None:
        """Find, read and divide the recordings, once.

        Raises:
            UserError: If there are none, most cannot be read, or they do not fit into memory.
        """
        if self._table is not None:
            return
        everything = find_clips(self.source, self.files)
        found = describe_clips(everything, "leave_out")
        clips, reasons = found.clips, found.reasons
        if len(reasons) > _MOST_UNREADABLE * len(everything):
            raise UserError(f"{self.source}: {len(reasons):,} recordings cannot be read; {reasons[0]}")
        self.rate: int = self.requested_rate or found.rates.most_common(1)[0][0]
        if reasons:
            self.notes.append(f"{len(reasons):,} recordings cannot be read, for example: {reasons[0]}")
        targets = read_targets([clip.labels for clip in clips], self.requested_task, self.known_classes)
        self.task: str = targets.task
        self.classes, self.labels = targets.classes, targets.values
        self.names = [clip_name(clip) for clip in clips]
        copies = copy_groups(clips, found.infos)
        self.assignment, self.explanation = assign(clips, self.labels, self.split, copies)
        reader = ClipReader(clips, found.infos, self.rate, self.channels)
        self.seconds = reader.lengths / self.rate
        self.max_length = int(reader.lengths.max())
        self._table = self._decoded(reader)

    def _decoded(self, reader: ClipReader) -> _Table:
        """Decode all recordings and lay them side by side."""
        needed = len(reader) * self.max_length * self.channels * 4
        if needed > _MOST_BYTES:
            raise UserError(
                f"{self.source}: its {len(reader):,} recordings of up to {self.seconds.max():g} s need "
                f"{needed / 2**30:.1f} GiB at {self.rate} Hz, the limit is {_MOST_BYTES >> 30}",
                hint="use a lower rate, or audio.datasets.WaveformDataModule in a recipe",
            )
        reader.decode_all()
        return _Table.of([reader.read(number) for number in range(len(reader))], self.labels)

    def train_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return the training batches, in a new order every epoch, all of one size."""
        places = np.flatnonzero(self.assignment == "train")
        order = PassesSampler(len(places), self.batch_size, self.passes, self.seed)
        return DataLoader(_Resident(self, places), batch_sampler=order, collate_fn=already_a_batch)

    def val_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return the validation batches; none where nobody validates."""
        return self._in_order(np.flatnonzero(self.assignment == "validation"))

    def test_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return the test batches."""
        return self._in_order(np.flatnonzero(self.assignment == "test"))

    def predict_dataloader(self) -> DataLoader[WaveformBatch]:
        """Return batches of all recordings, whatever their part."""
        return self._in_order(np.arange(len(self.names)))

    def _in_order(self, places: Int[np.ndarray, " n"]) -> DataLoader[WaveformBatch]:
        batches = [
            list(range(start, min(start + self.batch_size, len(places))))
            for start in range(0, len(places), self.batch_size)
        ]
        return DataLoader(_Resident(self, places), batch_sampler=batches, collate_fn=already_a_batch)

    def table(self) -> _Table:
        """Return the recordings, on the device that trains."""
        if self._table is None:
            raise RuntimeError("the data module has no recordings before setup()")
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        self._table = self._table.to(device)
        return self._table


class _Table:
    """All recordings side by side.

    Args:
        waveforms: Padded samples (n, length, channels).
        lengths: True lengths (n,), on the CPU.
        targets: Class numbers (n,), or labels or targets (n, k).
    """

    def __init__(
        self,
        waveforms: Float[Tensor, "n length channels"],
        lengths: Int[Tensor, " n"],
        targets: Tensor,
    ) -> None:
        self.waveforms, self.lengths, self.targets = waveforms, lengths, targets

    @classmethod
    def of(cls, waveforms: list[Tensor], labels: np.ndarray) -> _Table:
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        return cls(padded, lengths, torch.from_numpy(labels))

    def to(self, device: torch.device) -> _Table:
        return _Table(self.waveforms.to(device), self.lengths, self.targets.to(device))

    def batch(self, places: Int[np.ndarray, " batch"]) -> WaveformBatch:
        """Return some recordings, padded to the longest of them."""
        rows = torch.from_numpy(places)
        lengths = self.lengths[rows]
        on_device = rows.to(self.waveforms.device, non_blocking=True)
        return WaveformBatch(
            self.waveforms[on_device, : int(lengths.max())],
            lengths.to(self.waveforms.device, non_blocking=True),
            self.targets[on_device],
            on_device,
        )


class PassesSampler:
    """Batches of places for an epoch of several passes, each in an order of its own.

    Args:
        count: Number of places.
        batch_size: Places in a batch; all batches have as many unless there are fewer places.
        passes: Passes over all places in an epoch.
        seed: Seed of the orders.
    """

    def __init__(self, count: int, batch_size: int, passes: int, seed: int) -> None:
        self.count, self.batch_size, self.passes, self.seed = count, batch_size, passes, seed
        self.epoch = 0

    @property
    def sampler(self) -> PassesSampler:
        """The object whose `set_epoch` Lightning calls before every epoch: ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws its order for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.count * self.passes // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = np.concatenate([generator.permutation(self.count) for _ in range(self.passes)])
        return iter(
            [order[i * self.batch_size : (i + 1) * self.batch_size].tolist() for i in range(len(self))]
        )


class _Resident(Dataset[WaveformBatch]):
    """Some of the recordings; the loader asks for a whole batch at a time."""

    def __init__(self, data: ResidentDataModule, places: Int[np.ndarray, " n"]) -> None:
        self._table, self._places = data.table(), places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> WaveformBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> WaveformBatch:
        return self._table.batch(self._places[indices])
