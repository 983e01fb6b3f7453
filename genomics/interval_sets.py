"""Labelled intervals without their sequences: much of what is wrong with a data set shows in its coordinates.

Files are BED, or tables with a header line (comma or tab, plain or gzip) that names ``region`` (or chrom,
chromosome, chr, seqnames), ``start``, ``end`` and perhaps ``id`` and ``strand``, as in Genomic Benchmarks
(Gresova et al. 2023), whose folders ``train/`` and ``test/`` hold a file ``<class>.csv.gz`` a class. All are
0-based and half-open.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from genomics.benchmarks.tables import read_rows
from genomics.coordinates import Coordinates
from genomics.datasets.class_fastas import PathOrPaths, as_paths
from genomics.datasets.records import LabelledSequences, TokenStore, unique_names
from genomics.fasta import Fasta
from genomics.intervals import STRANDS, Interval, read_bed
from seqmamba.errors import UserError

_REQUIRED = {
    "region": ("region", "chrom", "chromosome", "chr", "seqnames", "#chrom"),
    "start": ("start",),
    "end": ("end",),
}
_OPTIONAL = {"id": ("id",), "strand": ("strand",)}
_COLUMNS = ("id", "region", "start", "end", "strand")
_LARGEST = 2**40  # far beyond any chromosome, and safe to add up in 64 bits
Row = tuple[str, str, int, int, str, str]
"""Name, chromosome, start, end, strand, and ``file:line``."""


@dataclass(frozen=True)
class LabelledIntervals:
    """A classification data set of which only the coordinates are known.

    Args:
        ids: Name of every interval in its file; a name may come several times.
        places: The intervals.
        labels: Class number of each.
        classes: Class names.
        split: Part of each, "train", "validation" or "test", str (n,), or None.
        sources: ``file:line`` of each.
    """

    ids: list[str]
    places: Coordinates
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    split: np.ndarray | None
    sources: list[str] = field(default_factory=list)

    task = "classification"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def intervals(self) -> list[Interval]:
        """The intervals one by one."""
        return [self.places[i] for i in range(len(self))]

    @property
    def names(self) -> IntervalNames:
        """How each interval is called in messages: its place."""
        return IntervalNames(self.places)


class IntervalNames(Sequence[str]):
    """The places of many intervals as text, written when asked for."""

    def __init__(self, places: Coordinates) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # one at a time
        return str(self._places[index])


def read_interval_sets(parts: Mapping[str | None, Mapping[str, PathOrPaths]]) -> LabelledIntervals:
    """Read files of intervals.

    Args:
        parts: Part ("train", "validation", "test", or None where there are no parts) to class name to file
            or files.

    Raises:
        UserError: With file and line, for a row that is no interval, or a table without the columns.
    """
    classes = tuple(dict.fromkeys(word for files in parts.values() for word in files))
    rows: list[Row] = []
    labels: list[int] = []
    split: list[str] = []
    for part, files in parts.items():
        for word, paths in files.items():
            for path in as_paths(paths):
                before = len(rows)
                rows.extend(read_intervals(path))
                labels.extend([classes.index(word)] * (len(rows) - before))
                split.extend([part or ""] * (len(rows) - before))
    columns = list(zip(*rows, strict=True))
    return LabelledIntervals(
        list(columns[0]),
        Coordinates.from_columns(*columns[1:5]),
        np.array(labels, dtype=np.int64),
        classes,
        None if None in parts else np.array(split),
        list(columns[5]),
    )


def read_intervals(path: Path) -> Iterator[Row]:
    """Read a file of intervals, BED or a table.

    Raises:
        UserError: With file and line, for a row that is no interval, or a table without the columns.
    """
    for row in _read_table(path) if is_table(path) else _read_bed(path):
        if row[3] > _LARGEST:
            raise UserError(f"{row[5]}: expected coordinates of at most {_LARGEST:,}, got {row[3]}")
        yield row


def is_table(path: Path) -> bool:
    """Say whether a file is named as a table: .csv or .tsv, perhaps .gz."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith((".csv", ".tsv"))


def _read_bed(path: Path) -> Iterator[Row]:
    for row in read_bed(path):
        place = row.interval
        source = f"{path}:{row.line}"
        yield row.name or str(place), place.chrom, place.start, place.end, place.strand, source


def _read_table(path: Path) -> Iterator[Row]:
    found = False
    for row in read_rows(path, _REQUIRED, _OPTIONAL):
        found = True
        start, end = row.integer("start"), row.integer("end")
        if not 0 <= start < end:
            raise UserError(f"{row.where}: expected 0 <= start < end, got {start} and {end}")
        strand = row.get("strand") or "."
        if strand not in STRANDS:
            raise UserError(f"{row.where}: strand must be +, -, . or empty, got {strand!r}")
        chrom = row["region"]
        yield row.get("id") or f"{chrom}:{start}-{end}", chrom, start, end, strand, row.where
    if not found:
        raise UserError(f"{path}: holds no row below its header")


def with_sequences(records: LabelledIntervals, genome: str | Path) -> LabelledSequences:
    """Look the intervals up in their genome; those on the minus strand as reverse complements.

    Args:
        records: The intervals.
        genome: FASTA file; its chromosome names may differ by ``chr``.

    Raises:
        UserError: With file and line, for an unknown chromosome or an end past its end.
    """
    fasta = Fasta(genome)
    tokens = []
    for interval, source in zip(records.intervals, records.sources, strict=True):
        place = fasta.place(interval, source)
        tokens.append(fasta.fetch(place.chrom, place.start, place.end, place.strand))
    words = (records.classes[label] for label in records.labels.tolist())
    return LabelledSequences(
        names=unique_names(unique_names(list(records.names), words), records.sources),
        tokens=TokenStore.from_arrays(tokens),
        labels=records.labels,
        classes=records.classes,
        task="classification",
        intervals=records.intervals,
        split=records.split,
        sources=records.sources,
    )


def write_intervals(path: Path, ids: Sequence[str], places: Sequence[Interval]) -> None:
    """Write a table of intervals as Genomic Benchmarks has them, gzip; the same rows make the same bytes.

    Args:
        path: The file, ``<class>.csv.gz``.
        ids: Name of each interval.
        places: The intervals, 0-based and half-open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, place in zip(ids, places, strict=True):
        strand = "" if place.strand == "." else place.strand
        writer.writerow((name, place.chrom, place.start, place.end, strand))
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
