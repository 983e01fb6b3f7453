"""The data module of gene segmentation: windows of any length over annotated genomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from genomics.alphabet import PAD
from genomics.annotations import LabelledChromosome, read_labelled
from genomics.datasets.regions import RegionSplit
from genomics.gene_labels import UNKNOWN, LabelScheme, find_scheme
from genomics.tiling import Span, Tiling
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS

Batch = dict[str, Tensor]
Paths = str | list[str]
_DEFAULT_SPLIT = RegionSplit()


@dataclass(frozen=True)
class Region:
    """A stretch of a genome that windows are cut from.

    Attributes:
        genome: Name of the genome.
        chromosome: The sequence with its labels.
        start: Its first base.
        end: One past its last base.
        unseen: Whether no part of the genome trains.
    """

    genome: str
    chromosome: LabelledChromosome
    start: int
    end: int
    unseen: bool = False

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def span(self) -> Span:
        """Its place."""
        return Span(self.chromosome.name, self.start, self.end)


@dataclass(frozen=True)
class WindowPlan:
    """Which windows are drawn; the same numbers of bases for every context, so that contexts compare.

    Args:
        context: Bases of a window, up to a whole chromosome.
        bases_per_epoch: Bases of the training windows of an epoch.
        bases_per_batch: Bases of a batch; a window longer than that is a batch by itself.
        overlap: Share of an evaluation window that its neighbours read too. Half of it is trimmed from either
            side, so no base is judged from the edge of a window, but for the ends of a region; 0 cuts a
            region into windows side by side.

    Raises:
        UserError: If a number is out of range.
    """

    context: int = 8_192
    bases_per_epoch: int = 33_554_432
    bases_per_batch: int = 1_048_576
    overlap: float = 0.0

    def __post_init__(self) -> None:
        for name in ("context", "bases_per_epoch", "bases_per_batch"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected a positive number of bases, got {getattr(self, name)}")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap: expected at least 0 and less than 1, got {self.overlap}")

    @property
    def windows_per_epoch(self) -> int:
        """Training windows of an epoch."""
        return max(1, self.bases_per_epoch // self.context)

    @property
    def windows_per_batch(self) -> int:
        """Windows of a batch."""
        return max(1, self.bases_per_batch // self.context)

    @property
    def tiling(self) -> Tiling:
        """How evaluation windows cover a region."""
        return Tiling.trimmed(self.context, int(self.overlap * self.context) // 2 * 2)


_DEFAULT_PLAN = WindowPlan()


class SegmentDataModule(L.LightningDataModule):
    """Annotated genomes, divided by region, in windows.

    Batches are dicts of ``tokens`` int64 (batch, length), right-padded with `PAD`; ``lengths`` int64
    (batch,), absent where all windows are equally long; ``labels`` int8 (batch, length), `UNKNOWN` where a
    base does not count; ``place`` int64 (batch, 4): number of the region, first base that is kept, one past
    the last, and first base that was read, counted from the start of the region. Training windows start
    anywhere in their region, all starts alike, drawn from (seed, epoch, number) only. Evaluation windows
    cover every base of a region once.

    Args:
        genomes: Name to a GenBank file, to a GFF3 file with sequences, or to a FASTA file and a GFF3 file.
        unseen: Further genomes that only the test sees, whole.
        scheme: Classes of a base: ``coding`` or ``genes``; see `genomics.gene_labels`.
        split: How the chromosomes are divided.
        windows: Which windows are drawn.
        num_workers: Worker processes of the training loader.
        seed: Seed of the training windows.

    Raises:
        UserError: If a value is out of range, or names repeat.
    """

    def __init__(
        self,
        genomes: dict[str, Paths],
        unseen: dict[str, Paths] | None = None,
        scheme: str = "coding",
        split: RegionSplit = _DEFAULT_SPLIT,
        windows: WindowPlan = _DEFAULT_PLAN,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not genomes:
            raise UserError("genomes: expected at least one, got none")
        if num_workers < 0:
            raise UserError(f"num_workers: expected 0 or more, got {num_workers}")
        if seed < 0:
            raise UserError(f"seed: expected 0 or more, got {seed}")
        if twice := genomes.keys() & (unseen or {}).keys():
            raise UserError(f"unseen: {', '.join(sorted(twice))} is among the genomes too")
        self.genomes, self.unseen = genomes, unseen or {}
        self.scheme: LabelScheme = find_scheme(scheme)
        self.split = split
        self.windows = windows
        self.num_workers = num_workers
        self.seed = seed
        self.regions: dict[str, list[Region]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read and divide the genomes, once.

        Raises:
            UserError: If a file cannot be read, or a part has no region.
        """
        if self.regions:
            return
        regions: dict[str, list[Region]] = {part: [] for part in PARTS}
        whole: list[Region] = []
        for genome, paths in self.genomes.items():
            chromosomes = {c.name: c for c in read_labelled(paths, self.scheme)}
            whole += [Region(genome, c, 0, len(c.tokens)) for c in chromosomes.values()]
            parts = self.split.regions({name: len(c.tokens) for name, c in chromosomes.items()})
            for part, spans in parts.items():
                regions[part] += [Region(genome, chromosomes[s.chrom], s.start, s.end) for s in spans]
        for part, found in regions.items():
            if not any((r.chromosome.labels[r.start : r.end] != UNKNOWN).any() for r in found):
                raise UserError(
                    f"split: no region of the genomes is for {part}",
                    hint="make test_bases and validation_bases smaller: a sequence is divided if it has at "
                    "least twice as many bases as both",
                )
        for genome, paths in self.unseen.items():
            found = [Region(genome, c, 0, len(c.tokens), True) for c in read_labelled(paths, self.scheme)]
            regions["test"] += found
            whole += found
        self.regions = {**regions, "whole": whole}

    def class_counts(self) -> np.ndarray:
        """Count the bases of every class in the training regions."""
        counts = np.zeros(len(self.scheme.classes), dtype=np.int64)
        for region in self.regions["train"]:
            labels = region.chromosome.labels[region.start : region.end]
            counts += np.bincount(labels.astype(np.int64) + 1, minlength=len(counts) + 1)[1:]
        return counts

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches: new windows every epoch."""
        drawn = DrawnWindows(self.regions["train"], self.windows.context, self.seed)
        order = EpochBatches(self.windows.windows_per_epoch, self.windows.windows_per_batch)
        return self._loader(drawn, order, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the windows that cover the validation regions."""
        return self._covering("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the windows that cover the test regions and the unseen genomes."""
        return self._covering("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the windows that cover all genomes whole."""
        return self._covering("whole")

    def _covering(self, part: str) -> DataLoader[Batch]:
        windows = CoveringWindows(self.regions[part], self.windows.tiling)
        batches = BatchSampler(SequentialSampler(windows), self.windows.windows_per_batch, drop_last=False)
        return self._loader(windows, batches, 0)

    @staticmethod
    def _loader(windows: Dataset[Batch], batches: Sampler[list[int]], num_workers: int) -> DataLoader[Batch]:
        return DataLoader(
            windows,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )


class EpochBatches(Sampler[list[int]]):
    """Batches of window numbers that never repeat: epoch e has those from ``e * windows`` on.

    Args:
        windows: Windows of an epoch.
        batch_size: Windows of a batch.
    """

    def __init__(self, windows: int, batch_size: int) -> None:
        self.windows = windows
        self.batch_size = batch_size
        self.epoch = 0

    @property
    def sampler(self) -> EpochBatches:
        """The object whose `set_epoch` Lightning calls before every epoch: ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.windows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        first = self.epoch * self.windows
        for start in range(0, self.windows, self.batch_size):
            yield list(range(first + start, first + min(start + self.batch_size, self.windows)))


class DrawnWindows(Dataset[Batch]):
    """Training windows; number i is a function of (seed, i).

    A region has weight by the number of its starts; one shorter than a window is read whole.

    Args:
        regions: Where windows lie.
        context: Bases of a window.
        seed: Of the draws.
    """

    def __init__(self, regions: Sequence[Region], context: int, seed: int) -> None:
        self._regions = list(regions)
        self._context = context
        self._seed = seed
        starts = [max(1, len(region) - context + 1) for region in self._regions]
        self._ends = np.cumsum(starts)

    def __getitem__(self, number: int) -> Batch:
        draw = int(np.random.default_rng((self._seed, number)).integers(self._ends[-1]))
        which = int(np.searchsorted(self._ends, draw, side="right"))
        region = self._regions[which]
        first = draw - (int(self._ends[which - 1]) if which else 0)
        last = min(first + self._context, len(region))
        return cut(region, which, first, last, first, last)


class CoveringWindows(Dataset[Batch]):
    """Windows that cover regions: every base is kept once.

    Args:
        regions: What to cover.
        tiling: How.
    """

    def __init__(self, regions: Sequence[Region], tiling: Tiling) -> None:
        self._regions = list(regions)
        self._windows = [
            (which, window)
            for which, region in enumerate(self._regions)
            for window in tiling.windows(Span(region.chromosome.name, 0, len(region)), len(region))
        ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, number: int) -> Batch:
        which, window = self._windows[number]
        return cut(self._regions[which], which, *window)


def cut(region: Region, which: int, start: int, end: int, first: int, last: int) -> Batch:
    """Cut a window out of a region.

    Args:
        region: The region.
        which: Its number.
        start: First base that is read, counted from the start of the region, as all that follow.
        end: One past the last base that is read.
        first: First base that counts.
        last: One past the last base that counts.

    Returns:
        See `SegmentDataModule`, without the batch's axis.
    """
    here = slice(region.start + start, region.start + end)
    labels = region.chromosome.labels[here].copy()
    labels[: first - start] = UNKNOWN
    labels[last - start :] = UNKNOWN
    return {
        "tokens": torch.from_numpy(region.chromosome.tokens[here].astype(np.int64)),
        "labels": torch.from_numpy(labels),
        "place": torch.tensor([which, first, last, start]),
    }


def collate(windows: Sequence[Batch]) -> Batch:
    """Make a batch of windows; shorter ones are padded on the right."""
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {
        "tokens": pad([w["tokens"] for w in windows], batch_first=True, padding_value=PAD),
        "labels": pad([w["labels"] for w in windows], batch_first=True, padding_value=UNKNOWN),
        "place": torch.stack([w["place"] for w in windows]),
    }
    lengths = torch.tensor([len(w["tokens"]) for w in windows])
    return batch if (lengths == lengths[0]).all() else {**batch, "lengths": lengths}
