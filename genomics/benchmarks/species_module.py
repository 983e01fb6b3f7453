"""Species classification as a data module: fresh training windows every epoch, fixed ones to evaluate on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from genomics.benchmarks.species import FORMS, SpeciesForm, SpeciesGenomes, Window
from genomics.datasets.module import Batch, RecordsDataModule
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.leaks import LeakReport
from genomics.splits import SplitConfig
from seqmamba.errors import UserError

_HELD_OUT = ("validation", "test")


class SpeciesDataModule(RecordsDataModule):
    """Windows of whole chromosomes, labelled with their species; `RecordsDataModule` says what it offers.

    ``records`` hold the windows to evaluate on, which are read once, and one training window a species. The
    training windows of an epoch depend on the seed and the epoch alone, so that a resumed run sees the
    windows that it would have seen.

    Args:
        folder: Folder with one folder a species; see `genomics.benchmarks.species`.
        form: ``mammals`` (HyenaDNA), ``great_apes`` (Mamba), or species of one's own and what is held out.
        length: Bases of a window.
        train_windows: Windows of a training epoch; Mamba's papers use 1,024 batches of 64.
        eval_windows: Windows to validate on, and as many to test on.
        batch_size: Windows in a batch.
        num_workers: Worker processes of the training loader.
        seed: Seed of all windows.
    """

    def __init__(
        self,
        folder: str,
        form: str | SpeciesForm = "mammals",
        length: int = 1024,
        train_windows: int = 65_536,
        eval_windows: int = 1_000,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 1,
    ) -> None:
        super().__init__(SplitConfig(by="column"), batch_size, num_workers, None, seed)
        if isinstance(form, str):
            if form not in FORMS:
                raise UserError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
            form = FORMS[form]
        for name, value, least in (
            ("length", length, 1),
            ("train_windows", train_windows, batch_size),
            ("eval_windows", eval_windows, len(form.species)),
        ):
            if value < least:
                raise UserError(f"{name}: expected at least {least}, got {value}")
        self.folder, self.form, self.length = folder, form, length
        self.train_windows, self.eval_windows = train_windows, eval_windows

    def setup(self, stage: str | None = None) -> None:
        """Open the genomes and draw the windows to evaluate on, once."""
        if self._records is not None:
            return
        self._records = self._read()
        assert self._records.split is not None
        self.assignment = self._records.split
        self.notes: list[str] = []
        self.explanation = (
            f"By chromosome: {', '.join(self.form.validation)} for validation, {', '.join(self.form.test)} "
            "for test, of each species."
        )
        # Parts are different chromosomes, and every window would have to be read to look for copies.
        self.leaks = LeakReport(counts={"affected": 0, "held_out": 2 * self.eval_windows})

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches, windows drawn anew every epoch."""
        windows: Any = _FreshWindows(self.genomes, self.length, self.seed)
        return DataLoader(
            windows,
            batch_sampler=_EpochIndices(self.train_windows, self.batch_size),
            collate_fn=_stack,
            num_workers=self.num_workers,
            persistent_workers=False,  # a worker that lives on would not learn of the next epoch
        )

    def _read(self) -> LabelledSequences:
        self.genomes = SpeciesGenomes(self.folder, self.form, "train")
        chosen: list[tuple[SpeciesGenomes, Window, str]] = [
            (self.genomes, window, "train")
            for window in self.genomes.fixed_list(
                len(self.genomes.species), self.length, self.seed, most_unknown=1.0
            )
        ]
        for number, part in enumerate(_HELD_OUT):
            genomes = SpeciesGenomes(self.folder, self.form, part)
            # The list does not depend on the run's seed: every model is tested on the same windows.
            windows = genomes.fixed_list(self.eval_windows, self.length, seed=number)
            chosen += [(genomes, window, part) for window in windows]
        names = [
            f"{part}_{i:06d}_{genomes.describe(window, self.length)}"
            for i, (genomes, window, part) in enumerate(chosen)
        ]
        return LabelledSequences(
            names=names,
            tokens=TokenStore.from_arrays(
                [genomes.fetch(window, self.length) for genomes, window, _ in chosen]
            ),
            labels=np.array([window.species for _, window, _ in chosen], dtype=np.int64),
            classes=self.genomes.species,
            task="classification",
            split=np.array([part for _, _, part in chosen]),
        )


class _EpochIndices(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, number of the window)."""

    def __init__(self, windows: int, batch_size: int) -> None:
        self.epoch = 0
        self._batches = windows // batch_size
        self._batch_size = batch_size

    @property
    def sampler(self) -> _EpochIndices:
        """The object whose `set_epoch` Lightning calls before every epoch: ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(self._batches):
            first = batch * self._batch_size
            yield [(self.epoch, first + i) for i in range(self._batch_size)]


class _FreshWindows(Dataset[tuple[Tensor, int]]):
    """The window that belongs to (seed, epoch, number)."""

    def __init__(self, genomes: SpeciesGenomes, length: int, seed: int) -> None:
        self._genomes, self._length, self._seed = genomes, length, seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        generator = np.random.default_rng((self._seed, *place))
        window = self._genomes.draw(self._length, generator)
        tokens = self._genomes.fetch(window, self._length)
        return torch.from_numpy(tokens.astype(np.int64)), window.species


def _stack(windows: list[tuple[Tensor, int]]) -> Batch:
    tokens = torch.stack([tokens for tokens, _ in windows])
    labels = torch.tensor([label for _, label in windows])
    return {
        "tokens": tokens,
        "lengths": torch.full((len(windows),), tokens.shape[1]),
        "labels": labels,
        "index": torch.full((len(windows),), -1),  # of no record
    }
