"""Places on a genome as columns, so that hundreds of thousands are compared in a fraction of a second.

Coordinates are 0-based and half-open. A chromosome is the same under its names with and without ``chr``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int8, Int64

from genomics.intervals import STRANDS, Interval, chrom_key
from seqmamba.ops.numba_math import kernel


@dataclass(frozen=True)
class Coordinates:
    """Many intervals.

    Args:
        chroms: Names of the chromosomes, as first written.
        chrom: Number of each interval's chromosome in ``chroms``.
        start: First base, counted from 0.
        end: One past the last base.
        strand: Place of the strand in `genomics.intervals.STRANDS`.
    """

    chroms: tuple[str, ...]
    chrom: Int64[np.ndarray, " n"]
    start: Int64[np.ndarray, " n"]
    end: Int64[np.ndarray, " n"]
    strand: Int8[np.ndarray, " n"]

    @classmethod
    def from_columns(
        cls, chrom: Sequence[str], start: Sequence[int], end: Sequence[int], strand: Sequence[str]
    ) -> Coordinates:
        """Number the chromosomes of columns that are valid intervals."""
        numbers: dict[str, int] = {}
        written: dict[str, int] = {}
        names: list[str] = []
        for name in chrom:
            if name in written:
                continue
            key = chrom_key(name)
            if key not in numbers:
                numbers[key] = len(numbers)
                names.append(name)
            written[name] = numbers[key]
        return cls(
            tuple(names),
            np.array([written[name] for name in chrom], dtype=np.int64),
            np.array(start, dtype=np.int64),
            np.array(end, dtype=np.int64),
            np.array([STRANDS.index(word) for word in strand], dtype=np.int8),
        )

    @classmethod
    def of(cls, intervals: Sequence[Interval]) -> Coordinates:
        """Lay intervals out as columns."""
        return cls.from_columns(
            [interval.chrom for interval in intervals],
            [interval.start for interval in intervals],
            [interval.end for interval in intervals],
            [interval.strand for interval in intervals],
        )

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: int) -> Interval:
        chrom = self.chroms[self.chrom[index]]
        return Interval(chrom, int(self.start[index]), int(self.end[index]), STRANDS[self.strand[index]])


def most_overlapping(
    places: Coordinates, level: Int[np.ndarray, " n"]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Find, for each interval, the one of a lower level that it shares most bases with, on either strand.

    Args:
        places: The intervals.
        level: Level of each; intervals of a negative level take no part.

    Returns:
        The match of each interval, -1 where none of a lower level overlaps; and the number of bases shared.
    """
    match = np.full(len(places), -1, dtype=np.int64)
    shared = np.zeros(len(places), dtype=np.int64)
    for own in np.unique(level[level > 0]):
        queries = np.flatnonzero(level == own)
        others = np.flatnonzero((level >= 0) & (level < own))
        others = others[np.lexsort((places.end[others], places.start[others], places.chrom[others]))]
        bounds = np.searchsorted(places.chrom[others], np.arange(len(places.chroms) + 1))
        _best_overlaps(places.chrom, places.start, places.end, queries, others, bounds, match, shared)
    return match, shared


@kernel()
def _best_overlaps(chrom, start, end, queries, others, bounds, match, shared):  # type: ignore[no-untyped-def]
    """Write the best partner among ``others`` (sorted by chromosome and start) of every query."""
    n = len(others)
    starts = np.empty(n, dtype=np.int64)
    reaching = np.empty(n, dtype=np.int64)  # of those that start no later on the chromosome, the last to end
    for p in range(n):
        starts[p] = start[others[p]]
        first = p == 0 or chrom[others[p]] != chrom[others[p - 1]]
        reaching[p] = p if first or end[others[p]] > end[others[reaching[p - 1]]] else reaching[p - 1]
    for q in queries:
        low, high = bounds[chrom[q]], bounds[chrom[q] + 1]
        p = low + np.searchsorted(starts[low:high], start[q], side="right")
        best, partner = 0, -1
        if p > low:
            j = others[reaching[p - 1]]
            best = min(end[j], end[q]) - start[q]
            partner = j
        # The later one starts, the less it can share.
        while p < high and end[q] - starts[p] > max(best, 0):
            j = others[p]
            if min(end[j], end[q]) - starts[p] > best:
                best = min(end[j], end[q]) - starts[p]
                partner = j
            p += 1
        if best > 0:
            match[q] = partner
            shared[q] = best
