"""Tracks in bins: the value of every bin of a stretch of a genome, and the bases beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from genomics.alphabet import N, TokenArray
from genomics.fasta import Fasta
from genomics.intervals import Interval
from genomics.signals import Signal
from seqmamba.nn.options import is_number, require, require_choice


@dataclass(frozen=True)
class TrackConfig:
    """A track to learn.

    Args:
        file: A bigWig, bedGraph, BED or narrowPeak file (0-based, half-open); of BED files, bases inside
            intervals are 1 and all others 0.
        name: Its name; None means the file's.
        missing: What a base without a value is: ``mask``, unknown; or ``zero``, as in files of coverage that
            leave out where there is none.
        scale: The mean of a bin is multiplied by this; the size of a bin makes sums of means.
        clip: Largest value of a bin, after scaling; None for no limit.

    Raises:
        UserError: If a value is out of range.
    """

    file: str
    name: str | None = None
    missing: Literal["mask", "zero"] = "mask"
    scale: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        require_choice("tracks.missing", self.missing, ("mask", "zero"))
        require(is_number(self.scale) and self.scale > 0, "tracks.scale", "a positive number", self.scale)
        if self.clip is not None:
            require(is_number(self.clip) and self.clip > 0, "tracks.clip", "a positive number", self.clip)

    @property
    def target(self) -> str:
        """The name to show."""
        return self.name or Path(self.file).name.split(".")[0]


class BinnedTracks:
    """A genome and its tracks, read together.

    Args:
        genome: The genome.
        tracks: The tracks.
        signals: Their files.
        bin_size: Bases of a bin.
        known: See `BinnedWindowPlan`.
    """

    def __init__(
        self,
        genome: Fasta,
        tracks: Sequence[TrackConfig],
        signals: Sequence[Signal],
        bin_size: int,
        known: float,
    ) -> None:
        self._genome = genome
        self._tracks = list(zip(tracks, signals, strict=True))
        self.bin_size = bin_size
        self._least = known * bin_size

    def read(self, chrom: str, start: int, end: int) -> tuple[TokenArray, Float32[np.ndarray, "bins tracks"]]:
        """Read whole bins: the bases, and the value of every bin and track, NaN where it does not count.

        A value is the mean over the bases of the bin that have one and are not N.

        Args:
            chrom: Chromosome.
            start: First base, 0-based: the first of a bin.
            end: One past the last base of a bin.
        """
        tokens = self._genome.fetch(chrom, start, end)
        certain = (tokens != N).reshape(-1, self.bin_size)
        values = np.empty((len(certain), len(self._tracks)), dtype=np.float32)
        for column, (config, signal) in enumerate(self._tracks):
            each = signal.values(chrom, start, end).reshape(certain.shape)
            there = certain if config.missing == "zero" else certain & ~np.isnan(each)
            counts = there.sum(axis=1)
            # float64: a bin of a million equal bases is to have their value
            sums = np.where(there, np.nan_to_num(each, nan=0.0), 0.0).sum(axis=1, dtype=np.float64)
            means = config.scale * sums / np.maximum(counts, 1)
            if config.clip is not None:
                means = np.minimum(means, config.clip)
            values[:, column] = np.where((counts >= self._least) & (counts > 0), means, np.nan)
        return tokens, values


def whole_bins(stretch: Interval, bin_size: int) -> Interval | None:
    """Return the whole bins inside a stretch, or None."""
    start, end = -(-stretch.start // bin_size) * bin_size, stretch.end // bin_size * bin_size
    return Interval(stretch.chrom, start, end) if start < end else None
