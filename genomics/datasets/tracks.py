"""The data module of binned tracks: windows over a genome and the values that its tracks have there.

Bins are counted from base 0 of every chromosome, as `genomics.tracks` writes them. A stretch of a split that
does not begin and end with a bin loses the bases in front of its first and behind its last whole one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from genomics.alphabet import PAD
from genomics.binned_tracks import BinnedTracks, TrackConfig, whole_bins
from genomics.datasets.segments import EpochBatches, WindowPlan
from genomics.fasta import Fasta
from genomics.genome_regions import GenomeConfig, read_regions
from genomics.intervals import Interval
from genomics.signals import open_signal
from genomics.tiling import Span, Tiling
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_whole

Batch = dict[str, Tensor]
_MOST_DRAWS = 1_000


@dataclass(frozen=True)
class BinnedWindowPlan(WindowPlan):
    """Which windows are drawn.

    Args:
        context: Bases of a window, a whole number of bins.
        bases_per_epoch: Bases of the training windows of an epoch.
        bases_per_batch: Bases of a batch; a window longer than that is a batch by itself.
        overlap: Share of an evaluation window that its neighbours read too; see `WindowPlan`. Rounded down
            to whole bins.
        bin_size: Bases of a bin.
        known: A bin counts where at least this share of its bases have a value and are not N.

    Raises:
        UserError: If a number is out of range.
    """

    bin_size: int = 128
    known: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole("windows.bin_size", self.bin_size)
        if self.context % self.bin_size:
            raise UserError(
                f"windows.context: expected a multiple of the bin size {self.bin_size}, got {self.context}"
            )
        good = is_number(self.known) and 0 < self.known <= 1
        require(good, "windows.known", "a number above 0, 1 at most", self.known)

    @property
    def tiling(self) -> Tiling:
        """How evaluation windows cover a stretch."""
        step = 2 * self.bin_size
        overlap = int(self.overlap * self.context) // step * step
        return Tiling.trimmed(self.context, overlap, unit=self.bin_size)


_DEFAULT_PLAN = BinnedWindowPlan()


class BinnedTrackDataModule(L.LightningDataModule):
    """A genome with tracks, divided by its split, in windows of whole bins.

    Batches are dicts of ``tokens`` int64 (batch, length), right-padded with `PAD`; ``targets`` float32
    (batch, bins, tracks), NaN where a bin does not count; ``lengths`` int64 (batch,), absent where all
    windows are equally long; ``place`` int64 (batch, 4): number of the stretch, first bin that is kept, one
    past the last, and first bin that was read, counted from the start of the stretch. Training windows start
    at any bin of a stretch, all alike, drawn from (seed, epoch, number) only; one without any value is drawn
    again. Evaluation windows cover every bin of a stretch once. No window leaves its stretch.

    After `setup`: ``regions``, the stretches of every part; ``targets``, the names of the tracks.

    Args:
        genome: The genome and its split. The folds of Borzoi are ``validation: [fold4]``, ``test: [fold3]``.
        tracks: The tracks.
        windows: Which windows are drawn.
        num_workers: Worker processes of the training loader.
        seed: Seed of the training windows.

    Raises:
        UserError: If a value is out of range, or names repeat.
    """

    def __init__(
        self,
        genome: GenomeConfig,
        tracks: list[TrackConfig],
        windows: BinnedWindowPlan = _DEFAULT_PLAN,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.targets = tuple(track.target for track in tracks)
        if not tracks or len(set(self.targets)) < len(tracks):
            raise UserError(f"tracks: expected different names, at least one, got {list(self.targets)}")
        require_whole("num_workers", num_workers, 0)
        require_whole("seed", seed, 0)
        self.genome = genome
        self.tracks = list(tracks)
        self.windows = windows
        self.num_workers = num_workers
        self.seed = seed
        self.regions: dict[str, list[Interval]] = {}
        self.smallest: dict[str, float] = {}

    def setup(self, stage: str | None = None) -> None:
        """Open the files and divide the genome, once.

        Raises:
            UserError: If a file cannot be read, or nothing is for training or validation.
        """
        if self.regions:
            return
        fasta = Fasta(self.genome.fasta)
        signals = [open_signal(track.file, fasta) for track in self.tracks]
        bin_size = self.windows.bin_size
        regions = {
            part: [whole for each in stretches if (whole := whole_bins(each, bin_size)) is not None]
            for part, stretches in read_regions(self.genome, fasta).items()
        }
        for part in ("train", "validation"):
            if not regions[part]:
                raise UserError(
                    f"genome: {self.genome.fasta}: nothing is for {part}",
                    hint="validation: [chr10] and test: [chr11] hold out what the rest trains for; or a BED "
                    "file names the parts",
                )
        self.smallest = {
            track.target: signal.smallest for track, signal in zip(self.tracks, signals, strict=True)
        }
        self._reader = BinnedTracks(fasta, self.tracks, signals, bin_size, self.windows.known)
        self.regions = regions

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches: new windows every epoch."""
        drawn = DrawnBins(self._reader, self.regions["train"], self.windows.context, self.seed)
        order = EpochBatches(self.windows.windows_per_epoch, self.windows.windows_per_batch)
        return DataLoader(
            drawn,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the windows that cover what is for validation."""
        return self._covering("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the windows that cover what is for the test.

        Raises:
            UserError: If there is nothing.
        """
        if not self.regions["test"]:
            raise UserError("genome: nothing is for the test", hint="test: [chr11]")
        return self._covering("test")

    def _covering(self, part: str) -> DataLoader[Batch]:
        windows = CoveringBins(self._reader, self.regions[part], self.windows.tiling)
        batches = BatchSampler(SequentialSampler(windows), self.windows.windows_per_batch, drop_last=False)
        return DataLoader(windows, batch_sampler=batches, collate_fn=collate)


class DrawnBins(Dataset[Batch]):
    """Training windows; number i is a function of (seed, i).

    A stretch has weight by the number of its starts; one shorter than a window is read whole.

    Args:
        reader: The genome and its tracks.
        regions: Where windows lie.
        context: Bases of a window.
        seed: Of the draws.
    """

    def __init__(self, reader: BinnedTracks, regions: Sequence[Interval], context: int, seed: int) -> None:
        self._reader = reader
        self._regions = list(regions)
        self._bins = context // reader.bin_size
        self._seed = seed
        starts = [max(1, len(region) // reader.bin_size - self._bins + 1) for region in self._regions]
        self._ends = np.cumsum(starts)

    def __getitem__(self, number: int) -> Batch:
        generator = np.random.default_rng((self._seed, number))
        for _ in range(_MOST_DRAWS):
            draw = int(generator.integers(self._ends[-1]))
            which = int(np.searchsorted(self._ends, draw, side="right"))
            first = draw - (int(self._ends[which - 1]) if which else 0)
            last = min(first + self._bins, len(self._regions[which]) // self._reader.bin_size)
            window = cut(self._reader, self._regions[which], which, first, last, first, last)
            if window["targets"].isfinite().any():
                return window
        raise UserError(
            f"tracks: {_MOST_DRAWS} training windows in a row had no value",
            hint="check that the tracks lie on this genome, and what `missing` and `known` mean",
        )


class CoveringBins(Dataset[Batch]):
    """Windows that cover stretches: every bin is kept once.

    Args:
        reader: The genome and its tracks.
        regions: What to cover.
        tiling: How.
    """

    def __init__(self, reader: BinnedTracks, regions: Sequence[Interval], tiling: Tiling) -> None:
        self._reader = reader
        self._regions = list(regions)
        self._windows = [
            (which, window)
            for which, region in enumerate(self._regions)
            for window in tiling.windows(Span(region.chrom, 0, len(region)), len(region))
        ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, number: int) -> Batch:
        which, window = self._windows[number]
        size = self._reader.bin_size
        kept = window.first, window.last
        return cut(self._reader, self._regions[which], which, window.start // size, window.end // size, *kept)


def cut(
    reader: BinnedTracks, region: Interval, which: int, start: int, end: int, first: int, last: int
) -> Batch:
    """Cut a window out of a stretch.

    Args:
        reader: The genome and its tracks.
        region: The stretch.
        which: Its number.
        start: First bin that is read, counted from the start of the stretch, as all that follow.
        end: One past the last bin that is read.
        first: First bin that counts.
        last: One past the last bin that counts.

    Returns:
        See `BinnedTrackDataModule`, without the batch's axis.
    """
    size = reader.bin_size
    tokens, values = reader.read(region.chrom, region.start + start * size, region.start + end * size)
    values[: first - start] = np.nan
    values[last - start :] = np.nan
    return {
        "tokens": torch.from_numpy(tokens.astype(np.int64)),
        "targets": torch.from_numpy(values),
        "place": torch.tensor([which, first, last, start]),
    }


def collate(windows: Sequence[Batch]) -> Batch:
    """Make a batch of windows; shorter ones are padded on the right."""
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {
        "tokens": pad([w["tokens"] for w in windows], batch_first=True, padding_value=PAD),
        "targets": pad([w["targets"] for w in windows], batch_first=True, padding_value=np.nan),
        "place": torch.stack([w["place"] for w in windows]),
    }
    lengths = torch.tensor([len(w["tokens"]) for w in windows])
    return batch if (lengths == lengths[0]).all() else {**batch, "lengths": lengths}
