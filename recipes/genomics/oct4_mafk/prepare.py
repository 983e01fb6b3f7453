"""Prepare oct4_mafk: the peaks of the janggu package's example, both of its halves, without repeats.

The package keeps 3,897 Oct4 and 3,900 MafK peaks for training and 100 of each for testing. All 7,997
sequences are different, but its two halves share chromosomes; this recipe pools them and holds out whole
chromosomes instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genomics.alphabet import decode, encode, reverse_complement
from genomics.fasta import read_fasta
from genomics.intervals import Interval, parse_header
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set
from recipes.sources import WheelSource
from seqmamba.errors import UserError

UNSEEN_CHROMOSOMES = ("chr8", "chr9")
FOLDER = "janggu/resources"
FILES = {"mafk": ("sample2.fa", "sample2_test.fa"), "oct4": ("sample.fa", "sample_test.fa")}
"""Class to its files in the package. The coordinates in their headers are hg19, 0-based and half-open."""


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the wheel already on disk.

    Returns:
        The folder with ``oct4.fa``, ``mafk.fa``, ``unseen.fa`` (the peaks of the test chromosomes, both
        classes mixed) and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the set from the package's four FASTA files; returns how many records each file got.

    Raises:
        UserError: If a header has no coordinates, or a sequence is listed under both classes.
    """
    seen: dict[str, str] = {}
    counts: dict[str, int] = {}
    unseen: list[tuple[str, str]] = []
    for label, files in FILES.items():
        peaks: list[tuple[str, str]] = []
        for file in files:
            for interval, letters in _peaks(unpacked / file):
                strands = _either_strand(letters)
                if seen.get(strands, label) != label:
                    raise UserError(
                        f"{file}: peak {interval} is listed under {seen[strands]} as well as {label}"
                    )
                if strands in seen:
                    continue
                seen[strands] = label
                peaks.append((str(interval), letters))
                if interval.chrom in UNSEEN_CHROMOSOMES:
                    unseen.append(peaks[-1])
        counts[f"{label}.fa"] = write_fasta(folder / f"{label}.fa", peaks)
    counts["unseen.fa"] = write_fasta(folder / "unseen.fa", sorted(unseen))
    return {"records": counts}


def _peaks(path: Path) -> Iterator[tuple[Interval, str]]:
    for record in read_fasta(path):
        interval = parse_header(record.header, len(record.sequence))
        if interval is None:
            raise UserError(
                f"{path.name}:{record.line}: {record.header!r} gives no coordinates that fit the sequence"
            )
        yield interval, decode(encode(record.sequence))


def _either_strand(letters: str) -> str:
    """The alphabetically smaller of a sequence and its reverse complement."""
    return min(letters, decode(reverse_complement(encode(letters))))


PREPARATION = Preparation(
    name="oct4_mafk",
    version=1,
    source=WheelSource(
        package="janggu",
        version="0.10.2",
        filename="janggu-0.10.2-py2.py3-none-any.whl",
        sha256="3825abe65578509232fcaa1e56f9eb5d71de105d70c9bcc9551357adc7d2fc47",
    ),
    members=tuple(f"{FOLDER}/{file}" for files in FILES.values() for file in files),
    build=build,
)
