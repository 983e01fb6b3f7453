"""Genomic intervals, 0-based and half-open, and where they are read from: FASTA headers, BED files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from genomics.files import decode_text, read_lines
from genomics.numbers import whole_number
from seqmamba.errors import UserError, quoted
from seqmamba.paths import expand

STRANDS = ("+", "-", ".")


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of a chromosome.

    Attributes:
        chrom: Chromosome or contig name.
        start: First base, counted from 0.
        end: One past the last base.
        strand: "+", "-" or "." (not stranded).
    """

    chrom: str
    start: int
    end: int
    strand: str = "."

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise UserError(f"{self.chrom}:{self.start}-{self.end}: expected 0 <= start < end")
        if self.strand not in STRANDS:
            raise UserError(
                f"{self.chrom}:{self.start}-{self.end}: strand must be +, - or ., got {self.strand!r}"
            )

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}" + ("" if self.strand == "." else f"({self.strand})")

    def overlaps(self, other: Interval) -> bool:
        """Say whether the two share a base, on either strand."""
        return self.chrom == other.chrom and self.start < other.end and other.start < self.end


# `range=` is UCSC's; `name::` and `(+)` are bedtools getfasta's. Thousands separators are those of browsers.
_COORDINATES = re.compile(
    r"(?:^|[\s|;=>]|::)(?P<chrom>[^\s:|;=>]+):(?P<start>[0-9][0-9,]*)(?:-|\.\.)(?P<end>[0-9][0-9,]*)"
    r"(?:\((?P<strand>[+.-])\)|:(?P<strand2>[+-]))?(?=$|[\s|;:])"
)
_UNDERSCORED = re.compile(
    r"(?:^|[_|\s])(?P<chrom>chr[0-9A-Za-z]+)_(?P<start>[0-9]+)_(?P<end>[0-9]+)(?=$|[\s|;_])", re.IGNORECASE
)
_STRAND = re.compile(r"\bstrand=([+-])")


def parse_header(header: str, length: int) -> Interval | None:
    """Read the coordinates that a FASTA header carries.

    Known styles: ``chr1:100-300``, ``chr1:100-300(+)`` and ``name::chr1:100-300`` (bedtools), ``hg19_dna
    range=chr1:101-300 strand=-`` (UCSC), ``chr1:101-300`` (samtools) and ``peak_chr1_100_300``. The styles
    do not agree on where counting starts, so the sequence decides: ``end - start`` bases mean 0-based
    half-open and one more means 1-based inclusive. Any other length means that the header does not give the
    place of this sequence.

    Args:
        header: The header without ``>``.
        length: Number of bases in the record.

    Returns:
        The interval, or None if there is none that fits the length.
    """
    match = _COORDINATES.search(header) or _UNDERSCORED.search(header)
    if match is None or length < 1:
        return None
    start, end = (whole_number(match[key].replace(",", "")) for key in ("start", "end"))
    if start is None or end is None:
        return None
    if end - start + 1 == length and start >= 1:
        start -= 1
    if end - start != length:
        return None
    fields = match.groupdict()
    strand = fields.get("strand") or fields.get("strand2")
    if strand is None and (named := _STRAND.search(header)):
        strand = named[1]
    return Interval(canonical_chrom(match["chrom"]), start, end, strand or ".")


def canonical_chrom(name: str) -> str:
    """Write the ``chr`` of a chromosome name in lower case (``CHR13`` and ``Chr13`` are ``chr13``)."""
    return "chr" + name[3:] if name[:3].lower() == "chr" else name


def match_chrom(name: str, known: Collection[str]) -> str | None:
    """Find a chromosome under the name that another file uses for it.

    Tries the name itself, then with ``chr`` added or removed, with M and MT exchanged, and in other case.

    Args:
        name: The name to look for, for example from a BED file or a ``--test`` option.
        known: The names to choose from, for example of a genome.

    Returns:
        The member of `known`, or None.
    """
    if name in known:
        return name
    key = chrom_key(name)
    candidates = [other for other in known if chrom_key(other) == key]
    return candidates[0] if len(candidates) == 1 else None


def chrom_key(name: str) -> str:
    """Return what the names of one chromosome have in common: no ``chr``, lower case, M for MT."""
    bare = name[3:] if name[:3].lower() == "chr" else name
    return {"m": "mt"}.get(bare.lower(), bare.lower())


_DISPLAY = ("track", "browser")
"""First words of lines that are for genome browsers; a chromosome may be called ``track_1``."""


@dataclass(frozen=True, slots=True)
class BedRow:
    """One line of a BED file: its interval, the name column (None when absent) and its line number."""

    interval: Interval
    name: str | None
    line: int


def read_bed(path: str | Path) -> Iterator[BedRow]:
    """Read a BED file (3 to 12 columns, narrowPeak and broadPeak too), plain or gzip.

    BED is 0-based and half-open. Comment, ``track`` and ``browser`` lines and blank lines are skipped;
    columns are separated by tabs, or by white space where a line has no tab.

    Raises:
        UserError: With file and line, for a row that is not BED, and for a file without any row.
    """
    path = expand(path)
    found = False
    for number, raw in read_lines(path):
        line = decode_text(raw)
        if not line.strip() or line.startswith("#") or line.split(maxsplit=1)[0] in _DISPLAY:
            continue
        found = True
        yield _bed_row(line, number, path)
    if not found:
        raise UserError(f"{path}: holds no BED row")


def _bed_row(line: str, number: int, path: str | Path) -> BedRow:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) < 3:
        raise UserError(
            f"{path}:{number}: expected at least 3 columns (chrom, start, end), got {len(fields)}"
        )
    chrom, start_text, end_text = (field.strip() for field in fields[:3])
    if not chrom:
        raise UserError(f"{path}:{number}: the name of the chromosome is empty")
    start, end = whole_number(start_text), whole_number(end_text)
    if start is None or end is None:
        raise UserError(
            f"{path}:{number}: start and end must be whole numbers, got {quoted(start_text)} and "
            f"{quoted(end_text)}",
            hint="a BED file has no header line; comment it out with #",
        )
    strand = fields[5].strip() if len(fields) > 5 else "."
    try:
        interval = Interval(chrom, start, end, strand if strand in STRANDS else ".")
    except UserError as error:
        raise UserError(f"{path}:{number}: {error.message}", hint="BED is 0-based and half-open") from None
    name = fields[3].strip() if len(fields) > 3 else None
    return BedRow(interval, name or None, number)
