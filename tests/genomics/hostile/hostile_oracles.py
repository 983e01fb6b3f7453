"""What files say, by other means than the readers under test: other libraries, or the plainest code."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pyfaidx
from Bio import SeqIO

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def plain_lines(content: bytes) -> list[bytes]:
    """The lines of a file that was accepted: unpacked, without byte order mark and line endings."""
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    return [line.removesuffix(b"\r") for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")]


def letters_of(sequence: bytes) -> str:
    """Letters as the models read them: upper case, T for U, and N for whatever is not known."""
    return re.sub("[^ACGT]", "N", sequence.decode("ascii").upper().replace("U", "T"))


def reverse(letters: str) -> str:
    return letters.translate(COMPLEMENT)[::-1]


def fasta_sequences(content: bytes) -> dict[str, str]:
    """Name to letters, in the order of the file, however the lines are cut."""
    found: dict[str, str] = {}
    name = ""
    for line in plain_lines(content):
        if line.startswith(b">"):
            text = line[1:].decode("utf-8", "surrogateescape")
            name = text.split()[0] if text.isascii() else ""
            found[name] = ""
        elif line.strip():
            found[name] += letters_of(line.strip())
    return found


def pyfaidx_sequences(path: Path) -> dict[str, str] | None:
    """What pyfaidx reads; None where its own rules forbid the file."""
    try:
        with pyfaidx.Fasta(str(path), sequence_always_upper=True, rebuild=True) as genome:
            found = {name: str(genome[name][:]) for name in genome.keys()}  # noqa: SIM118
    except (pyfaidx.FastaIndexingError, pyfaidx.FetchError, ValueError, KeyError, zlib.error):
        return None
    if not all(letters.isalpha() for letters in found.values()):  # it counts trailing white space as bases
        return None
    return {name: letters_of(letters.encode()) for name, letters in found.items()}


class Row(NamedTuple):
    """A line of BED or GFF3: chromosome, kind, first base from 0, end, strand, and GFF3's phase."""

    chrom: str
    kind: str
    start: int
    end: int
    strand: str
    phase: str


def text_of(field: bytes) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError:
        return field.decode("latin-1")


def bed_rows(content: bytes) -> list[Row]:
    rows = []
    for line in plain_lines(content):
        line = line.rstrip()
        if not line.strip() or line.startswith(b"#"):
            continue
        text = text_of(line)
        columns = text.split("\t") if "\t" in text else text.split()
        if columns[0] in ("track", "browser") or re.match(r"(track|browser)\s", text):
            continue
        columns = [column.strip() for column in columns]
        strand = columns[5] if len(columns) > 5 and columns[5] in ("+", "-") else "."
        name = columns[3] if len(columns) > 3 else ""
        rows.append(Row(columns[0], name, _whole(columns[1]), _whole(columns[2]), strand, ""))
    return rows


def gff3_rows(content: bytes) -> list[Row]:
    rows = []
    for line in plain_lines(content):
        if line.startswith((b"##FASTA", b">")):
            break
        line = line.rstrip()
        if line and not line.startswith(b"#"):
            columns = text_of(line).split("\t")
            strand = columns[6].replace("?", ".")
            rows.append(
                Row(columns[0], columns[2], _whole(columns[3]) - 1, _whole(columns[4]), strand, columns[7])
            )
    return rows


def _whole(text: str) -> int:
    """Read a number as the formats define it: digits, and nothing else."""
    assert re.fullmatch("[0-9]+", text), f"{text!r} was taken for a number"
    return int(text)


def vcf_rows(content: bytes) -> list[list[bytes]]:
    """The columns of the rows below the header."""
    return [line.split(b"\t") for line in plain_lines(content) if line and not line.startswith(b"#")]


def table_rows(content: bytes) -> list[dict[str, str]]:
    """The rows of a table by the lower-case names of its columns; titles may stand above those."""
    lines = [text_of(line.rstrip()) for line in plain_lines(content)]
    lines = [line for line in lines if line.strip() and not line.startswith("##")]
    gap = "\t" if "\t" in lines[0] else ","
    cells = [[cell.strip() for cell in next(csv.reader([line], delimiter=gap))] for line in lines]
    head = next(i for i, row in enumerate(cells) if "start" in [cell.lower() for cell in row])
    names, rows = [cell.lower() for cell in cells[head]], cells[head + 1 :]
    return [dict(zip(names, row + [""] * len(names), strict=False)) for row in rows]


def decimal_whole(text: str) -> int:
    """Read a whole number that a spreadsheet may have written as ``12.0``."""
    assert re.fullmatch(r"[0-9.eE+]+", text.strip()), f"{text!r} was taken for a number"
    return int(float(text))


class Reading(NamedTuple):
    """A feature of a GenBank file: its kind, its positions in the order of reading, and its bases."""

    kind: str
    positions: list[int]
    bases: str
    mixed: bool


def genbank_readings(content: bytes) -> Iterator[tuple[str, str, list[Reading]]]:
    """Yield id, letters and features of every record as Biopython reads the file itself."""
    text = "\n".join(text_of(line) for line in plain_lines(content)) + "\n"
    for record in SeqIO.parse(StringIO(text), "genbank"):
        features = []
        for feature in record.features:
            here = [part for part in feature.location.parts if part.ref is None and len(part)]
            positions = [position for part in here for position in part]
            bases = "".join(letters_of(bytes(part.extract(record.seq))) for part in here)
            if positions:
                mixed = feature.location.strand not in (1, -1)
                features.append(Reading(feature.type, positions, bases, mixed))
        yield record.id, letters_of(bytes(record.seq)), features
