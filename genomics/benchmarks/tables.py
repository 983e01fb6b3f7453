"""The tables that benchmarks are released as: text or Excel, with a line of column names."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genomics.files import check_file, decode_text, read_lines
from genomics.intervals import Interval
from genomics.numbers import finite_number
from seqmamba.errors import UserError

_HEADER_WITHIN = 5
"""Some tables have a line or two of group titles above the column names."""

Columns = Mapping[str, Sequence[str]]
"""Our name of a column -> the names that files use for it, in any case."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        where: ``file:line``, for errors.
        cells: Our name of a column to its text, stripped; an absent optional column is missing here.
    """

    where: str
    cells: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.cells[name]

    def get(self, name: str) -> str | None:
        """Return an optional cell; None where the column is absent or the cell is empty."""
        return self.cells.get(name) or None

    def integer(self, name: str) -> int:
        """Return a cell that has to be a whole number, which some writers give as ``12.0``.

        Raises:
            UserError: With file and line, if it is none.
        """
        value = self.number(name)
        if not value.is_integer():
            raise UserError(f"{self.where}: {name}: expected a whole number, got {self.cells[name]!r}")
        return int(value)

    def number(self, name: str) -> float:
        """Return a cell that has to be a finite number.

        Raises:
            UserError: With file and line, if it is none.
        """
        value = finite_number(self.cells[name])
        if value is None:
            raise UserError(f"{self.where}: {name}: expected a number, got {self.cells[name]!r}")
        return value

    def interval(self, chrom: str, start: int, end: int, strand: str = ".") -> Interval:
        """Return an interval that the row is about, 0-based and half-open.

        Raises:
            UserError: With file and line, if it is none.
        """
        try:
            return Interval(chrom, start, end, strand)
        except UserError as error:
            raise UserError(f"{self.where}: {error.message}", hint=error.hint) from None


def read_rows(path: str | Path, required: Columns, optional: Columns | None = None) -> Iterator[Row]:
    """Read a table with its columns found by name.

    Args:
        path: Text, plain or gzip, whose cells tabs separate if its first line has one, else commas; or the
            first sheet of an Excel file (``.xlsx``).
        required: Columns that have to be there.
        optional: Columns that may be there.

    Yields:
        The rows in the order of the file.

    Raises:
        UserError: With file and line: without a line of column names, a column that is missing or comes
            twice, a row that is too wide, or an empty required cell.
    """
    path = check_file(path)
    lines = _excel_lines(path) if zipfile.is_zipfile(path) else _text_lines(path)
    width, places = _header(lines, path, required, optional or {})
    for number, cells in lines:
        where = f"{path}:{number}"
        if len(cells) > width:
            raise UserError(f"{where}: expected {width} cells, got {len(cells)}")
        cells += [""] * (width - len(cells))  # trailing empty cells were stripped with the line's end
        row = {name: cells[place].strip() for name, place in places.items()}
        for name in required:
            if not row[name]:
                raise UserError(f"{where}: the column {name!r} is empty")
        yield Row(where, row)


def _text_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells; a quoted cell cannot run over several lines."""
    delimiter = ""
    for number, line in read_lines(path):
        if not line:
            continue
        text = decode_text(line)
        delimiter = delimiter or ("\t" if "\t" in text else ",")
        try:
            yield number, next(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}:{number}: cannot be read as a table ({error})") from None


def _excel_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with path.open("rb") as handle:
            book = openpyxl.load_workbook(handle, read_only=True, data_only=True)
            for number, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
                row = ["" if cell is None else str(cell) for cell in cells]
                while row and not row[-1]:
                    row.pop()
                if row:
                    yield number, row
    except (InvalidFileException, KeyError, ValueError, zipfile.BadZipFile, IndexError) as error:
        raise UserError(f"{path}: is no readable Excel file ({error})") from None


def _header(
    lines: Iterator[tuple[int, list[str]]], path: Path, required: Columns, optional: Columns
) -> tuple[int, dict[str, int]]:
    """Find the line of column names; return its width and the place of every column."""
    first: list[str] = []
    missing: list[str] = []
    for _ in range(_HEADER_WITHIN):
        number, cells = next(lines, (0, []))
        if not number:
            break
        names = [cell.strip() for cell in cells]
        found = _places(names, {**required, **optional}, f"{path}:{number}")
        lacking = [name for name in required if name not in found]
        if not lacking:
            return len(names), found
        if not first:
            first, missing = names, lacking
    raise UserError(
        f"{path}: has no column {', '.join(repr(name) for name in missing)}",
        hint=f"its first line reads {', '.join(first[:8])}{', ...' if len(first) > 8 else ''}",
    )


def _places(names: Sequence[str], columns: Columns, where: str) -> dict[str, int]:
    lower = [name.lower() for name in names]
    places: dict[str, int] = {}
    for name, spellings in columns.items():
        found = [i for i, cell in enumerate(lower) if cell in {spelling.lower() for spelling in spellings}]
        if len(found) > 1:
            raise UserError(f"{where}: two columns can be {name!r}: {', '.join(names[i] for i in found)}")
        if found:
            places[name] = found[0]
    return places
