"""VCF files as streams: rows in, and the same rows out with more INFO fields.

What is not added stays as it was, byte for byte: header lines, line endings, unknown fields and samples. The
rules are those of the VCF 4.x specification, sections 1.2 to 1.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from genomics.fasta import Fasta
from genomics.files import check_file, decode_text, read_raw_lines
from genomics.variant_results import AddedField, AddedFields, Results
from genomics.variants import Variant, parse_variant
from seqmamba.errors import UserError

INFO = 7  # the column
COLUMNS = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO")
_INFO_ID = re.compile(rb"##INFO=<(?:.*?,)?ID=([^,>]+)")
_NUMBER = {"Float": "A", "String": ".", "Flag": "0"}


class Vcf:
    """A plain, gzip or bgzip VCF file, read from start to end.

    Args:
        path: The file. It is read more than once, so it cannot be a pipe.

    Raises:
        UserError: If the file is none, or its header is not that of a VCF file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_file(path)
        if not self.path.is_file():
            raise UserError(
                f"{self.path}: is a pipe; the file is read more than once", hint="write it to disk first"
            )
        self.header = list(self._read_header())
        names, _ = split_line(self.header[-1])
        self._columns = len(names)
        found = (_INFO_ID.match(line) for line in self.header)
        self.info_ids = frozenset(match[1].decode("utf-8", "replace") for match in found if match)

    def _read_header(self) -> Iterator[bytes]:
        for number, line in read_raw_lines(self.path):
            if number == 1 and not line.startswith(b"##fileformat=VCF"):
                start = decode_text(line[:30])
                raise UserError(
                    f"{self.path}:1: a VCF file starts with '##fileformat=VCF', got {start!r}",
                    hint="a table with a line of column names goes with --tsv",
                )
            if not line.startswith(b"#"):
                raise UserError(f"{self.path}:{number}: expected the line of column names, #CHROM ...")
            yield line
            if not line.startswith(b"##"):
                self._check_names(line, number)
                return
        raise UserError(f"{self.path}: ends before the line of column names, #CHROM ...")

    def _check_names(self, line: bytes, number: int) -> None:
        names, _ = split_line(line)
        if tuple(names[:8]) != COLUMNS or (len(names) > 8 and names[8] != b"FORMAT"):
            raise UserError(
                f"{self.path}:{number}: expected the columns #CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO "
                f"and perhaps FORMAT with tabs between them, got {decode_text(line.rstrip())[:80]!r}"
            )

    def variants(self) -> Iterator[Variant]:
        """Yield the rows.

        Raises:
            UserError: With file and line, for a row that is not VCF.
        """
        for number, line in read_raw_lines(self.path):
            if number <= len(self.header):
                continue
            fields, ending = split_line(line)
            where = f"{self.path}:{number}"
            if fields == [b""]:
                raise UserError(f"{where}: is blank, which VCF does not allow")
            if len(fields) != self._columns:
                raise UserError(
                    f"{where}: expected {self._columns} columns with tabs between them, got {len(fields)}"
                )
            if b"" in fields[:8]:
                column = COLUMNS[fields.index(b"")].decode().removeprefix("#")
                raise UserError(f"{where}: {column}: is empty, expected a value or '.'")
            chrom, position, _, ref, alt = fields[:5]
            yield parse_variant(number, decode_text(chrom), position, ref, alt, fields, ending, where)


class VcfWriter:
    """Turns scored rows into lines of a VCF file with more INFO fields.

    Args:
        fields: The fields to add.
        source: The file whose header and rows are kept; a genome starts a file of its own.
        note: ``key=value``, a header line that says where the fields come from.

    Raises:
        UserError: If the file has one of the fields already.
    """

    def __init__(self, fields: AddedFields, source: Vcf | Fasta, note: str) -> None:
        self._fields = fields
        self._source = source
        self._ids = tuple(field.id.encode() for field in fields.all)
        lines = source.header if isinstance(source, Vcf) else list(_new_header(source))
        if isinstance(source, Vcf) and (
            taken := sorted({field.id for field in fields.all} & source.info_ids)
        ):
            raise _taken(taken[0], str(source.path))
        ending = split_line(lines[-1])[1] or b"\n"
        added = (*map(_declaration, fields.all), f"##{note}".encode())
        self.header = b"".join((*lines[:-1], *(line + ending for line in added), lines[-1]))

    def check(self, variant: Variant) -> None:
        """Refuse a row that has one of the fields without declaring it.

        Raises:
            UserError: With file and line.
        """
        info = variant.fields[INFO] if isinstance(self._source, Vcf) else b""
        if not any(key in info for key in self._ids):
            return
        for entry in info.split(b";"):
            if (key := entry.partition(b"=")[0]) in self._ids:
                raise _taken(key.decode(), f"{self._source.path}:{variant.line}")

    def lines(self, variant: Variant, results: Results) -> bytes:
        """Return a row with INFO entries added at the end.

        Args:
            variant: A row of the source, or of a table.
            results: Its scores.
        """
        entries = ";".join(self._entries(variant, results)).encode()
        if not isinstance(self._source, Vcf):
            return b"\t".join((*_new_row(variant, self._source), entries)) + b"\n"
        row = list(variant.fields)
        info = b"" if row[INFO] == b"." else row[INFO]
        row[INFO] = info + (b"" if not info or info.endswith(b";") else b";") + entries
        return b"\t".join(row) + variant.ending

    def _entries(self, variant: Variant, results: Results) -> Iterator[str]:
        if variant.alts:  # otherwise a field of one value an ALT allele has no value at all
            columns = zip(*self._fields.cells(results), strict=True)
            for field, cells in zip(self._fields.scores, columns, strict=True):
                yield f"{field.id}={','.join(cell or '.' for cell in cells)}"
        if any(results.reasons):
            yield f"{self._fields.skipped.id}={','.join(reason or '.' for reason in results.reasons)}"
        if results.mismatch:
            yield self._fields.mismatch.id


def _declaration(field: AddedField) -> bytes:
    """Return the header line of an INFO field, without its line ending."""
    text = " ".join(field.description.split()).replace("\\", "\\\\").replace('"', '\\"')
    number = _NUMBER[field.type]
    return f'##INFO=<ID={field.id},Number={number},Type={field.type},Description="{text}">'.encode()


def split_line(line: bytes) -> tuple[list[bytes], bytes]:
    """Split a line at its tabs.

    Returns:
        The fields, and the line ending.
    """
    content = line.rstrip(b"\r\n")
    return content.split(b"\t"), line[len(content) :]


def _taken(key: str, where: str) -> UserError:
    return UserError(
        f"{where}: has an INFO field {key} already", hint="name the new ones otherwise with --prefix"
    )


def _new_header(genome: Fasta) -> Iterator[bytes]:
    yield b"##fileformat=VCFv4.3\n"
    for name in genome.names:
        yield f"##contig=<ID={name},length={genome.length(name)}>\n".encode()
    yield b"\t".join(COLUMNS) + b"\n"


def _new_row(variant: Variant, genome: Fasta) -> tuple[bytes, ...]:
    chrom = _genome_name(genome, variant.chrom).encode()
    alts = b",".join(variant.alts) or b"."
    return chrom, str(variant.position).encode(), b".", variant.ref, alts, b".", b"."


@lru_cache(4096)
def _genome_name(genome: Fasta, chrom: str) -> str:
    """Return the name that the header declares for a sequence, if it declares one."""
    try:
        return genome.resolve(chrom)
    except UserError:
        return chrom
