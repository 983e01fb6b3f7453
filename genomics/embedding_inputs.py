"""Sequences to embed: records of a FASTA file, intervals of a genome, whole chromosomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from genomics.alphabet import TokenArray, encode
from genomics.fasta import Fasta, read_fasta
from genomics.intervals import Interval, read_bed


class Item(NamedTuple):
    """A sequence to embed.

    Attributes:
        name: Its id.
        interval: Where it lies, under the genome's own name of the chromosome.
        fetch: Returns a stretch of it, given by two positions in it.
    """

    name: str
    interval: Interval
    fetch: Callable[[int, int], TokenArray]


def from_fasta(path: str | Path) -> Iterator[Item]:
    """Yield the records of a FASTA file; memory depends on the longest.

    Args:
        path: Plain or gzip FASTA.
    """
    for record in read_fasta(path, unique_names=False):  # remembering all would take memory
        tokens = encode(record.sequence)
        yield Item(record.name, Interval(record.name, 0, len(tokens)), partial(_cut, tokens))


def from_genome(genome: Fasta, bed: str | Path | None = None) -> Iterator[Item]:
    """Yield the intervals of a BED file, or whole chromosomes; only what a window needs is read.

    Args:
        genome: The genome.
        bed: Intervals; the name column is the id, or the coordinates where there is none.

    Raises:
        UserError: With file and line, for an interval that is not in the genome.
    """
    if bed is None:
        for name in genome.names:
            whole = Interval(name, 0, genome.length(name))
            yield Item(name, whole, partial(_fetch, genome, whole))
        return
    for row in read_bed(bed):
        interval = genome.place(row.interval, f"{bed}:{row.line}")
        name = str(interval) if row.name in (None, ".") else row.name
        yield Item(name, interval, partial(_fetch, genome, interval))


def _cut(tokens: TokenArray, start: int, end: int) -> TokenArray:
    return tokens[start:end]


def _fetch(genome: Fasta, interval: Interval, start: int, end: int) -> TokenArray:
    if interval.strand == "-":
        start, end = len(interval) - end, len(interval) - start
    return genome.fetch(interval.chrom, interval.start + start, interval.start + end, interval.strand)
