"""Tables of variants: tab-separated with a line of column names, or Parquet.

Written tables have one row an ALT allele. Of a table that was read they keep every column; of a VCF file they
have ``chrom``, ``pos`` (1-based), ``id``, ``ref`` and ``alt``. A missing value is an empty cell or null.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genomics.files import check_file, decode_text, read_raw_lines
from genomics.variant_results import AddedFields, Results
from genomics.variants import Variant, parse_variant
from genomics.vcf import Vcf, split_line
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

ALIASES = {
    "chrom": ("chrom", "#chrom", "chr", "chr_name", "chromosome", "contig", "seqname", "seqnames"),
    "pos": ("pos", "position", "chr_position", "chrom_pos", "base_pair_location", "bp"),
    "ref": ("ref", "reference", "ref_allele", "reference_allele", "allele_ref"),
    "alt": ("alt", "alternate", "alternative", "alt_allele", "alternate_allele", "allele_alt"),
}
"""Column -> its names, in any case."""

_VCF_COLUMNS = ("chrom", "pos", "id", "ref", "alt")
_TYPES = {"Float": "double", "String": "string", "Flag": "bool"}
_PARQUET_BLOCK = 1 << 24  # bytes of text turned into rows at once


class VariantTable:
    """A plain or gzip tab-separated table, read from start to end.

    Lines that begin with ``##`` in front of the column names are comments. An empty ALT or ``.`` is none;
    several are separated by commas.

    Args:
        path: The file. It is read more than once, so it cannot be a pipe.

    Raises:
        UserError: If the file is none, or lacks a column or has it twice.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_file(path)
        if not self.path.is_file():
            raise UserError(
                f"{self.path}: is a pipe; the file is read more than once", hint="write it to disk first"
            )
        for number, line in read_raw_lines(self.path):
            if line.startswith(b"##"):
                continue
            self._header_line = number
            break
        else:
            raise UserError(f"{self.path}: ends before the line of column names")
        names, _ = split_line(line)
        self.columns = tuple(decode_text(name).strip() for name in names)
        twice = [name for i, name in enumerate(self.columns) if name in self.columns[:i]]
        if twice:
            raise UserError(f"{self.path}:{self._header_line}: has the column {twice[0]!r} twice")
        self.places = {column: self._find(column) for column in ALIASES}

    def _find(self, column: str) -> int:
        where = f"{self.path}:{self._header_line}"
        found = [i for i, name in enumerate(self.columns) if name.lower() in ALIASES[column]]
        if len(found) == 1:
            return found[0]
        if found:
            both = " and ".join(self.columns[i] for i in found)
            raise UserError(f"{where}: expected one column {column!r}, got {both}")
        raise UserError(
            f"{where}: expected a column {column!r}, got {', '.join(self.columns)[:80]!r}",
            hint="the first line names the columns chrom, pos (1-based), ref and alt, with tabs between them",
        )

    def variants(self) -> Iterator[Variant]:
        """Yield the rows.

        Raises:
            UserError: With file and line, for a row that is not a variant.
        """
        places = self.places
        for number, line in read_raw_lines(self.path):
            if number <= self._header_line:
                continue
            fields, ending = split_line(line)
            where = f"{self.path}:{number}"
            if len(fields) != len(self.columns):
                raise UserError(f"{where}: expected {len(self.columns)} columns, got {len(fields)}")
            chrom, position, ref, alt = (fields[places[column]].strip() for column in ALIASES)
            yield parse_variant(number, decode_text(chrom), position, ref, alt or b".", fields, ending, where)


class TableWriter:
    """Turns scored rows into lines of a table with more columns.

    Args:
        fields: The columns to add.
        source: Where the rows come from.

    Raises:
        UserError: If the table has one of the columns already.
    """

    def __init__(self, fields: AddedFields, source: Vcf | VariantTable) -> None:
        columns = _VCF_COLUMNS if isinstance(source, Vcf) else source.columns
        added = [field.id for field in fields.all]
        for name in added:
            if name in columns:
                raise UserError(
                    f"{source.path}: has a column {name} already",
                    hint="name the new ones otherwise with --prefix",
                )
        self._fields = fields
        self._source = source
        self.header = ("\t".join((*columns, *added)) + "\n").encode()

    def check(self, variant: Variant) -> None:
        """Accept every row; `VcfWriter.check` does not."""

    def lines(self, variant: Variant, results: Results) -> bytes:
        """Return the lines of all alleles of a row.

        Args:
            variant: A row of the source.
            results: Its scores.
        """
        scores = self._fields.cells(results)
        lines = []
        for alt, cells, reason in zip(variant.alts or (b".",), scores, results.reasons, strict=True):
            added = (*cells, reason or "", "1" if results.mismatch else "0")
            # Text in UTF-8, whatever the file was in: Parquet takes no other.
            row = (decode_text(cell) for cell in self._row(variant, alt))
            lines.append("\t".join((*row, *added)).encode() + b"\n")
        return b"".join(lines)

    def _row(self, variant: Variant, alt: bytes) -> list[bytes]:
        position = str(variant.position).encode()
        if isinstance(self._source, Vcf):
            return [variant.fields[0], position, variant.fields[2], variant.ref, alt]
        row = list(variant.fields)
        row[self._source.places["alt"]] = alt
        row[self._source.places["pos"]] = position
        return row


def write_parquet(text: Path, output: Path, fields: AddedFields) -> None:
    """Turn a finished table into Parquet, block by block.

    Args:
        text: A table as `TableWriter` writes it.
        output: The file to write; it appears when it is complete.
        fields: The added columns, whose types are known. ``pos`` becomes an integer, the others are text.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    with text.open("rb") as handle:
        names = handle.readline().decode().rstrip("\n").split("\t")
    types = dict.fromkeys(names, pa.string())
    types |= {name: pa.int64() for name in names if name.lower() in ALIASES["pos"]}
    types |= {field.id: pa.type_for_alias(_TYPES[field.type]) for field in fields.all}
    reader = csv.open_csv(
        text,
        read_options=csv.ReadOptions(block_size=_PARQUET_BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            true_values=["1"],
            false_values=["0"],
        ),
    )
    with atomic_path(output) as part, parquet.ParquetWriter(part, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
