"""Writing tracks: bigWig, bedGraph, BED and narrowPeak, as streams.

All are 0-based and half-open. Chromosomes come in the byte order of their names and intervals in the order of
their starts, which is what UCSC's tools, tabix and IGV ask for (``LC_ALL=C sort -k1,1 -k2,2n``). The same
values make the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from Bio import bgzf

from seqmamba.errors import UserError

BIGWIG, BEDGRAPH, BED, NARROW_PEAK = "bigWig", "bedGraph", "BED", "narrowPeak"
_SUFFIXES = {".bw": BIGWIG, ".bigwig": BIGWIG, ".bedgraph": BEDGRAPH, ".bg": BEDGRAPH, ".bed": BED}
_SUFFIXES |= {".narrowpeak": NARROW_PEAK}
_GZIP = ".gz"
_MAX_SCORE = 1_000


class Intervals(NamedTuple):
    """Some intervals of one chromosome that follow each other, and a value for each.

    Attributes:
        chrom: The chromosome.
        starts: First bases, increasing.
        ends: One past the last bases; at most the next start.
        values: Finite float32 values.
    """

    chrom: str
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


def track_format(path: Path) -> str:
    """Return the format that the name of a file stands for.

    Raises:
        UserError: If the ending is none of those known.
    """
    stem, packed = split_suffix(path)
    found = _SUFFIXES.get(stem.suffix.lower())
    if found is None or (found == BIGWIG and packed.lower().endswith(_GZIP)):
        raise UserError(
            f"--output {path}: expected a name that ends in .bw, .bigWig, .bedGraph, .bed or .narrowPeak "
            "(all but bigWig also with .gz)"
        )
    return found


def split_suffix(path: Path) -> tuple[Path, str]:
    """Return a path without ``.gz``, and everything from the format's suffix on (``.bed.gz``)."""
    plain = path.with_suffix("") if path.suffix.lower() == _GZIP else path
    return plain, path.name[len(plain.stem) :]


def write_bigwig(path: Path, lengths: Mapping[str, int], track: Iterable[Intervals]) -> int:
    """Write a bigWig file with its zoom levels, in constant memory.

    As in the files of UCSC's tools, the list of chromosomes has those that hold a value.

    Args:
        path: The file; its name ends in ``.bw``.
        lengths: Bases of every chromosome.
        track: Intervals in order.

    Returns:
        Number of bases with a value.

    Raises:
        UserError: If there is no value at all, or the file could not be written.
    """
    import pybigtools

    rows = _Rows(track)
    pybigtools.open(str(path), "w").write(dict(lengths), rows)
    rows.raise_failure()
    if not rows.bases:
        raise UserError("there is no value to write: no window holds enough known bases")
    _check_bigwig(path, rows.bases)
    return rows.bases


class _Rows:
    """Gives pybigtools row after row; keeps the exceptions that it would only print."""

    def __init__(self, track: Iterable[Intervals]) -> None:
        self.bases = 0
        self._failure: BaseException | None = None
        self._rows = self._generate(track)

    def _generate(self, track: Iterable[Intervals]) -> Iterator[tuple[str, int, int, float]]:
        for part in track:
            self.bases += int((part.ends - part.starts).sum())
            yield from zip(repeat(part.chrom), part.starts.tolist(), part.ends.tolist(), part.values.tolist())

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> tuple[str, int, int, float]:
        try:
            return next(self._rows)
        except StopIteration:
            raise
        except BaseException as failure:
            self._failure = failure
            raise StopIteration from None

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _check_bigwig(path: Path, bases: int) -> None:
    """Make sure that the file is whole: pybigtools prints what goes wrong, and returns."""
    import pybigtools

    try:
        found = pybigtools.open(str(path)).info()["summary"]["basesCovered"]
    except (OSError, ValueError, KeyError, pybigtools.BBIReadError):
        found = 0
    if found != bases:
        raise UserError(
            f"{path.name}: the bigWig could not be written ({found:,} of {bases:,} bases arrived)",
            hint="the disk, or the folder for temporary files (TMPDIR), may be full",
        )


def write_bedgraph(path: Path, track: Iterable[Intervals]) -> int:
    """Write the four columns of bedGraph: chrom, start, end, value with six digits.

    Args:
        path: The file; with ``.gz`` at its end it is written as BGZF, which tabix can index.
        track: Intervals in order.

    Returns:
        Number of bases with a value.
    """
    bases = 0
    with _open(path) as handle:
        for part in track:
            bases += int((part.ends - part.starts).sum())
            rows = zip(part.starts.tolist(), part.ends.tolist(), part.values.tolist(), strict=True)
            text = "".join(f"{part.chrom}\t{a}\t{b}\t{value:.6g}\n" for a, b, value in rows)
            handle.write(text.encode())
    return bases


@dataclass(slots=True)
class Peak:
    """A stretch whose values all reach a threshold.

    Attributes:
        chrom: The chromosome.
        start: First base.
        end: One past the last base.
        total: Sum of the values of all bases.
        highest: The largest value.
        summit: Where it is: the middle of the first interval that has it.
    """

    chrom: str
    start: int
    end: int
    total: float
    highest: float
    summit: int

    @property
    def mean(self) -> float:
        """Mean value of a base."""
        return self.total / (self.end - self.start)


def peaks(track: Iterable[Intervals], threshold: float) -> Iterator[Peak]:
    """Join neighbouring intervals whose values reach a threshold.

    Args:
        track: Intervals in order.
        threshold: The least value of a peak.
    """
    current: Peak | None = None
    for part in track:
        high = np.flatnonzero(part.values >= threshold)
        starts, ends, values = (column[high].tolist() for column in part[1:])
        for start, end, value in zip(starts, ends, values, strict=True):
            if current is None or current.chrom != part.chrom or current.end != start:
                if current is not None:
                    yield current
                current = Peak(part.chrom, start, start, 0.0, -np.inf, start)
            current.end = end
            current.total += value * (end - start)
            if value > current.highest:
                current.highest, current.summit = value, (start + end) // 2
    if current is not None:
        yield current


def write_peaks(
    path: Path, track: Iterable[Intervals], *, name: str, threshold: float, narrow: bool = False
) -> int:
    """Write the stretches above a threshold as BED (6 columns) or narrowPeak (10).

    The fifth column, which browsers draw as a shade, is 1000 times the mean value, from 0 to 1000: made for
    probabilities. The columns of narrowPeak that follow are the largest value, no p and q value (-1), and the
    offset of the summit.

    Args:
        path: The file; with ``.gz`` at its end it is written as BGZF.
        track: Intervals in order.
        name: Fourth column, with a number behind it in narrowPeak, whose names are unique.
        threshold: The least value of a peak.
        narrow: Whether to write narrowPeak.

    Returns:
        Number of peaks.
    """
    label = "_".join(name.split())
    count = 0
    with _open(path) as handle:
        for count, peak in enumerate(peaks(track, threshold), start=1):
            score = round(min(max(_MAX_SCORE * peak.mean, 0), _MAX_SCORE))
            columns = [peak.chrom, peak.start, peak.end, f"{label}_{count}" if narrow else label, score, "."]
            if narrow:
                columns += [f"{peak.highest:.6g}", -1, -1, peak.summit - peak.start]
            handle.write(("\t".join(map(str, columns)) + "\n").encode())
    return count


def _open(path: Path) -> BinaryIO | bgzf.BgzfWriter:
    """Open a file for writing: BGZF where the name ends in ``.gz``; no time stamp goes into it."""
    return bgzf.BgzfWriter(str(path)) if path.suffix.lower() == _GZIP else path.open("wb")
