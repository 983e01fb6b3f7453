"""Signals along a genome that models learn from: bigWig, bedGraph and BED files, read at random.

All are 0-based and half-open. bigWig files are read through pybigtools, whose handles must not cross a fork:
every process opens its own on first use. A bedGraph file is turned into a bigWig file in the cache once. Of a
BED file the bases inside intervals have the value 1 and all others 0.
"""

from __future__ import annotations

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from genomics.fasta import Fasta
from genomics.fasta_index import cached_path
from genomics.files import check_file, decode_text, read_lines
from genomics.intervals import match_chrom, read_bed
from genomics.track_files import BED, BEDGRAPH, BIGWIG, Intervals, track_format, write_bigwig
from genomics.track_regions import join
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

_LARGEST = float(np.finfo(np.float32).max)
_ROWS = 65_536  # of a bedGraph file, turned into arrays at once
_SKIPPED = ("#", "track", "browser")
_BED_FORMATS = (BED, "narrowPeak")


class Signal(ABC):
    """Values along a genome.

    Attributes:
        smallest: The least value that there is.
    """

    smallest: float

    @abstractmethod
    def values(self, chrom: str, start: int, end: int) -> Float32[np.ndarray, " bases"]:
        """Return the value of every base of a stretch; NaN where there is none.

        Args:
            chrom: Chromosome, by the genome's own name.
            start: First base, 0-based.
            end: One past the last base.
        """


def open_signal(path: str | Path, genome: Fasta) -> Signal:
    """Open a file of values along a genome; its ending says the format.

    Args:
        path: A bigWig, bedGraph, BED or narrowPeak file; text also with ``.gz``.
        genome: The genome; names match with and without ``chr``.

    Raises:
        UserError: If the file is none of these or damaged, has no chromosome of the genome, or one of another
            length.
    """
    file = check_file(path)
    try:
        kind = track_format(file)
    except UserError:
        raise UserError(
            f"{file}: expected a name that ends in .bw, .bigWig, .bedGraph, .bed or .narrowPeak "
            "(all but bigWig also with .gz)"
        ) from None
    if kind in _BED_FORMATS:
        return IntervalSignal(file, genome)
    if kind == BEDGRAPH:
        return BigWigSignal(_as_bigwig(file, genome), genome, shown=file)
    assert kind == BIGWIG
    return BigWigSignal(file, genome)


class BigWigSignal(Signal):
    """The values of a bigWig file.

    Args:
        path: The file.
        genome: The genome that it lies on.
        shown: What messages call the file.

    Raises:
        UserError: See `open_signal`.
    """

    def __init__(self, path: Path, genome: Fasta, *, shown: Path | None = None) -> None:
        self._path = path
        self._shown = shown or path
        self._reader: Any = None
        self._reader_pid = -1
        chroms: Mapping[str, int] = self._open().chroms()
        self.smallest = float(self._open().info()["summary"]["min"])
        self._names: dict[str, str] = {}
        for name in genome.names:
            own = match_chrom(name, chroms)
            if own is None:
                continue
            if chroms[own] != genome.length(name):
                raise UserError(
                    f"{self._shown}: {own} has {chroms[own]:,} bases, and {genome.length(name):,} in "
                    f"{genome.path}",
                    hint="check that the track and the genome are of the same build",
                )
            self._names[name] = own
        if not self._names:
            raise _no_chromosome(self._shown, list(chroms), genome)

    def values(self, chrom: str, start: int, end: int) -> Float32[np.ndarray, " bases"]:
        """See `Signal`."""
        own = self._names.get(chrom)
        if own is None:  # as in UCSC's files, chromosomes without a value are left out
            return np.full(end - start, np.nan, dtype=np.float32)
        found: np.ndarray = self._open().values(own, start, end, fillna=None)
        return found.astype(np.float32)

    def _open(self) -> Any:
        if self._reader is None or self._reader_pid != os.getpid():
            import pybigtools

            try:
                self._reader = pybigtools.open(str(self._path))
                self._reader.chroms()  # of a bigBed file too, which has no values
                self._reader.info()["summary"]["min"]
            except (OSError, ValueError, KeyError, pybigtools.BBIReadError) as error:
                raise UserError(f"{self._shown}: is no bigWig file that can be read ({error})") from None
            self._reader_pid = os.getpid()
        return self._reader

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_reader": None, "_reader_pid": -1}


class IntervalSignal(Signal):
    """1 inside the intervals of a BED file, whatever their strands, 0 elsewhere.

    Args:
        path: The file.
        genome: The genome that it lies on; rows on other sequences are left out.

    Raises:
        UserError: See `open_signal`; with file and line, for a row past the end of its sequence.
    """

    smallest = 0.0

    def __init__(self, path: Path, genome: Fasta) -> None:
        names: dict[str, str | None] = {}
        found: dict[str, list[tuple[int, int]]] = {}
        for row in read_bed(path):
            chrom = row.interval.chrom
            if chrom not in names:
                names[chrom] = match_chrom(chrom, genome.names)
            if names[chrom] is not None:
                place = genome.place(row.interval, f"{path}:{row.line}")
                found.setdefault(place.chrom, []).append((place.start, place.end))
        if not found:
            raise _no_chromosome(path, list(names), genome)
        self._stretches = {chrom: np.array(join(rows), dtype=np.int64) for chrom, rows in found.items()}

    def values(self, chrom: str, start: int, end: int) -> Float32[np.ndarray, " bases"]:
        """See `Signal`."""
        inside = np.zeros(end - start, dtype=np.float32)
        stretches = self._stretches.get(chrom)
        if stretches is None:
            return inside
        first = int(np.searchsorted(stretches[:, 1], start, side="right"))
        last = int(np.searchsorted(stretches[:, 0], end, side="left"))
        for low, high in stretches[first:last].tolist():
            inside[max(0, low - start) : high - start] = 1
        return inside


def _as_bigwig(path: Path, genome: Fasta) -> Path:
    """Return a copy of a bedGraph file as bigWig, made in the cache if it is not there."""
    lengths = {name: genome.length(name) for name in genome.names}
    build = hashlib.sha256(repr(sorted(lengths.items())).encode()).hexdigest()[:8]
    copy = cached_path(path, f".{build}.bw")
    if copy.exists():
        return copy
    with atomic_path(copy) as part:
        fresh = part.with_name(f"{part.name}.bw")  # the writer goes by the ending
        try:
            write_bigwig(fresh, lengths, _bedgraph_parts(path, genome))
            os.replace(fresh, part)
        finally:
            fresh.unlink(missing_ok=True)
    return copy


def _bedgraph_parts(path: Path, genome: Fasta) -> Iterator[Intervals]:
    """Read a bedGraph file in blocks of rows of one chromosome, under the genome's names."""
    names: dict[str, str | None] = {}
    finished: set[str] = set()
    rows: list[tuple[int, int, float]] = []
    current, known, end = "", False, 0
    for number, raw in read_lines(path):
        line = decode_text(raw)
        if not line.strip() or line.startswith(_SKIPPED):
            continue
        where = f"{path}:{number}"
        chrom, row = _bedgraph_row(line, where)
        if chrom != current:
            if rows:
                yield _intervals(str(names[current]), rows)
            if chrom in finished:
                raise _unsorted(where, f"{chrom} comes again")
            finished.add(chrom)
            names[chrom] = match_chrom(chrom, genome.names)
            current, rows, end = chrom, [], 0
        if row[0] < end:
            raise _unsorted(where, f"{chrom}:{row[0]} lies in front of the end of the row before it, {end}")
        end = row[1]
        own = names[chrom]
        if own is None or math.isnan(row[2]):
            continue
        known = True
        if end > genome.length(own):
            raise UserError(
                f"{where}: {chrom}:{row[0]}-{end} ends past the end of {own}, which has "
                f"{genome.length(own):,} bases",
                hint="check that the track and the genome are of the same build",
            )
        rows.append(row)
        if len(rows) == _ROWS:
            yield _intervals(own, rows)
            rows = []
    if rows:
        yield _intervals(str(names[current]), rows)
    if not known:
        raise _no_chromosome(path, list(names), genome)


def _bedgraph_row(line: str, where: str) -> tuple[str, tuple[int, int, float]]:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) != 4:
        raise UserError(f"{where}: expected 4 columns (chrom, start, end, value), got {len(fields)}")
    try:
        start, end, value = int(fields[1]), int(fields[2]), float(fields[3])
    except ValueError:
        start, end, value = 0, 0, 0.0
    if not 0 <= start < end or abs(value) > _LARGEST:
        raise UserError(f"{where}: expected 0 <= start < end and a number, got {' '.join(fields[1:])!r}")
    return fields[0].strip(), (start, end, value)


def _intervals(chrom: str, rows: list[tuple[int, int, float]]) -> Intervals:
    starts, ends, values = zip(*rows, strict=True)
    return Intervals(chrom, np.array(starts), np.array(ends), np.array(values, dtype=np.float32))


def _unsorted(where: str, what: str) -> UserError:
    return UserError(f"{where}: {what}", hint="sort the file with `sort -k1,1 -k2,2n` and join what overlaps")


def _no_chromosome(path: Path, names: list[str], genome: Fasta) -> UserError:
    return UserError(
        f"{path}: has a value on none of the sequences of {genome.path}",
        hint=f"it has {', '.join(names[:3]) or 'none'}, the genome {', '.join(genome.names[:3])}",
    )
