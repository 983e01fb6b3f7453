"""The data module of the sequence tasks: reads any layout, splits it, checks the split, and makes batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genomics.alphabet import PAD
from genomics.datasets.bed import from_bed
from genomics.datasets.class_fastas import from_class_fastas
from genomics.datasets.headers import from_headers
from genomics.datasets.records import LabelledSequences, Task
from genomics.datasets.table import from_table
from genomics.leaks import LeakReport, check_leaks
from genomics.splits import SplitConfig, assign
from seqmamba.errors import UserError
from seqmamba.training.batching import LengthBucketBatchSampler, already_a_batch

_DEFAULT_SPLIT = SplitConfig()
_LARGEST_TABLE = 1 << 30
"""Bases, padding included, of the largest data set that is kept on a GPU; a base is a byte."""
Batch = dict[str, Tensor | None]


class RecordsDataModule(L.LightningDataModule, ABC):
    """Labelled DNA sequences, divided and batched; a subclass says where they come from.

    After `setup`: ``records``, ``assignment`` (str (n,): train, validation, test or empty), ``explanation``
    (how the split was made), ``leaks``, ``classes``, ``task`` and ``notes`` (what to tell the user).

    Batches are dicts of ``tokens`` int64 (batch, length), right-padded with `PAD`; ``lengths`` int64
    (batch,), None where all have that length; ``labels`` int64 (batch,) or float32 (batch, k); ``index``
    int64 (batch,), the place in ``records``. On a GPU the data set is copied there once if it is small.

    Args:
        split: How to split the data.
        batch_size: Sequences in a batch.
        num_workers: Worker processes of the training loader.
        max_length: Crop longer sequences to this many bases at their centre.
        seed: Seed of the order of batches.
    """

    _drops_last_batch = False
    """Whether training leaves out the last batch of an epoch where it is smaller than the others."""

    def __init__(
        self, split: SplitConfig, batch_size: int, num_workers: int, max_length: int | None, seed: int
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"batch_size: expected a positive number, got {batch_size}")
        if num_workers < 0:
            raise UserError(f"num_workers: expected 0 or more, got {num_workers}")
        if seed < 0:
            raise UserError(f"seed: expected 0 or more, got {seed}")
        if max_length is not None and max_length < 1:
            raise UserError(f"max_length: expected a positive number of bases, got {max_length}")
        self.split = split
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_length = max_length
        self.seed = seed
        self._records: LabelledSequences | None = None

    @abstractmethod
    def _read(self) -> LabelledSequences:
        """Read the data set."""

    def _divided(self, records: LabelledSequences) -> tuple[LabelledSequences, np.ndarray, str]:
        """Return the records that take part, the part of each, and an explanation."""
        return records, *assign(records, self.split)

    def setup(self, stage: str | None = None) -> None:
        """Read, split and check the data, once."""
        if self._records is not None:
            return
        records = self._read()
        self.notes = list(records.notes)
        records, self.assignment, self.explanation = self._divided(records)
        self.leaks: LeakReport = check_leaks(records, self.assignment)
        self._records = self._cropped(records)

    @property
    def records(self) -> LabelledSequences:
        """The data set, in the order of its files.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._records is None:
            raise RuntimeError("the data module has no records before setup()")
        return self._records

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, or target names for regression."""
        return self.records.classes

    @property
    def task(self) -> Task:
        """What the labels mean."""
        return self.records.task

    def part(self, name: str) -> np.ndarray:
        """Return the places in `records` of a part: "train", "validation" or "test"."""
        return np.flatnonzero(self.assignment == name)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches: similar lengths together, in a new order every epoch."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches."""
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return batches of all sequences, whatever their part."""
        return self._loader(None)

    def _loader(self, part: str | None, shuffle: bool = False) -> DataLoader[Batch]:
        indices = np.arange(len(self.records)) if part is None else self.part(part)
        sampler = LengthBucketBatchSampler(
            self.records.tokens.lengths[indices],
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            drop_last=shuffle and self._drops_last_batch and len(indices) > self.batch_size,
        )
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        return DataLoader(
            _BatchedRecords(self.records, indices, device if self.num_workers == 0 else torch.device("cpu")),
            batch_sampler=sampler,
            collate_fn=already_a_batch,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def _cropped(self, records: LabelledSequences) -> LabelledSequences:
        if self.max_length is None:
            return records
        longer = int((records.tokens.lengths > self.max_length).sum())
        if not longer:
            return records
        self.notes.append(
            f"cropped {longer} of {len(records)} sequences to their central {self.max_length} bases"
        )
        return records.cropped(self.max_length)


class SequenceDataModule(RecordsDataModule):
    """Labelled DNA sequences, split and batched.

    See `RecordsDataModule` for its attributes and batches.

    Args:
        fasta: Class name to FASTA file or files; or one FASTA file or several, with `labels` or with headers
            that read ``name|label|split``.
        labels: Table of labels for `fasta`.
        bed: BED file or files, or class name to BED file or files; needs `genome`.
        genome: FASTA file of the genome for `bed`.
        task: What the labels mean; "auto" guesses from the label table.
        split: How to split the data.
        batch_size: Sequences in a batch.
        num_workers: Worker processes of the training loader.
        max_length: Crop longer sequences to this many bases at their centre.
        seed: Seed of the order of batches and of background windows.
    """

    def __init__(
        self,
        fasta: dict[str, str | list[str]] | str | list[str] | None = None,
        labels: str | None = None,
        bed: dict[str, str | list[str]] | str | list[str] | None = None,
        genome: str | None = None,
        task: Literal["auto", "classification", "multilabel", "regression"] = "auto",
        split: SplitConfig = _DEFAULT_SPLIT,
        batch_size: int = 64,
        num_workers: int = 0,
        max_length: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(split, batch_size, num_workers, max_length, seed)
        _check_layout(fasta, labels, bed, genome, task)
        self.fasta, self.labels, self.bed, self.genome = fasta, labels, bed, genome
        self.requested_task = task

    def _read(self) -> LabelledSequences:
        if self.bed is not None:
            assert self.genome is not None
            return from_bed(self.bed, self.genome, seed=self.seed)
        assert self.fasta is not None
        if isinstance(self.fasta, dict):
            return from_class_fastas(self.fasta)
        if self.labels is not None:
            task: Task | None = None if self.requested_task == "auto" else self.requested_task
            return from_table(self.fasta, self.labels, task)
        return from_headers(self.fasta)


def collate(records: LabelledSequences, indices: np.ndarray) -> Batch:
    """Make a batch of some records.

    Args:
        records: The data set.
        indices: Places in it, shape (batch,).

    Returns:
        See `SequenceDataModule`.
    """
    lengths = records.tokens.lengths[indices]
    return {
        "tokens": torch.from_numpy(records.tokens.padded(indices, PAD)).long(),
        "lengths": _unless_all_alike(lengths),
        "labels": torch.from_numpy(records.labels[indices]),
        "index": torch.from_numpy(indices.astype(np.int64)),
    }


def _unless_all_alike(lengths: np.ndarray) -> Tensor | None:
    return None if lengths.min() == lengths.max() else torch.from_numpy(lengths.copy())


class _BatchedRecords(Dataset[Batch]):
    """Some of the records; the loader asks for a whole batch at a time.

    Args:
        records: The data set.
        indices: Places in it.
        device: Where batches are to be. A small data set is laid out there as a whole: then a batch takes a
            few short kernels, and no copy that the host waits for.
    """

    def __init__(self, records: LabelledSequences, indices: np.ndarray, device: torch.device) -> None:
        self._records = records
        self._indices = indices
        self._table: dict[str, Tensor] | None = None
        lengths = records.tokens.lengths[indices]
        if device.type == "cuda" and 0 < len(lengths) * int(lengths.max()) <= _LARGEST_TABLE:
            table = {name: column for name, column in collate(records, indices).items() if column is not None}
            table["tokens"] = table["tokens"].to(torch.uint8)
            table["lengths"] = torch.from_numpy(lengths.copy())
            self._table = {name: column.to(device) for name, column in table.items()}

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        chosen = self._indices[indices]
        if self._table is None:
            return collate(self._records, chosen)
        lengths = self._records.tokens.lengths[chosen]
        rows = torch.tensor(indices).to(self._table["index"].device, non_blocking=True)
        taken = {name: column[rows] for name, column in self._table.items()}
        taken["tokens"] = taken["tokens"][:, : int(lengths.max())].long()
        batch: Batch = {**taken}
        if lengths.min() == lengths.max():
            batch["lengths"] = None
        return batch


def _check_layout(
    fasta: object, labels: str | None, bed: object, genome: str | Path | None, task: str
) -> None:
    if (fasta is None) == (bed is None):
        raise UserError(
            "expected either fasta or bed, got " + ("neither" if fasta is None else "both"),
            hint="fasta: one file a class, or a file with labels; bed: intervals on a genome",
        )
    if bed is not None and genome is None:
        raise UserError("bed needs genome, the FASTA file that the intervals lie on")
    if genome is not None and bed is None:
        raise UserError("genome is only used with bed")
    if labels is not None and not isinstance(fasta, str | list):
        raise UserError("labels is only used with a fasta that is one file or a list of files")
    if labels is None and task not in ("auto", "classification"):
        raise UserError(f"task {task!r} needs labels, a table with the values")
