"""The tables that benchmarks are released as: comma- or tab-separated text with a line of column names."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from genomics.files import check_file, decode_text, read_lines
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
        try:
            value = float(self.cells[name])
        except ValueError:
            value = float("nan")
        if value - value != 0:
            raise UserError(f"{self.where}: {name}: expected a number, got {self.cells[name]!r}")
        return value


def read_rows(path: str | Path, required: Columns, optional: Columns | None = None) -> Iterator[Row]:
    """Read a table, plain or gzip, with its columns found by name.

    Args:
        path: The file; tabs separate its cells if the line of column names has one, else commas.
        required: Columns that have to be there.
        optional: Columns that may be there.

    Yields:
        The rows in the order of the file.

    Raises:
        UserError: With file and line: without a line of column names, a column that is missing or comes
            twice, a row of another width, or an empty required cell.
    """
    path = check_file(path)
    numbers: list[int] = []

    def lines() -> Iterator[str]:
        for number, line in read_lines(path):
            if line:
                numbers[:] = [number]
                yield decode_text(line)

    text = lines()
    header, places = _header(text, numbers, path, required, optional or {})
    reader = csv.reader(text, delimiter=header[0], strict=True)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}:{numbers[0]}: cannot be read as a table ({error})") from None
        if cells is None:
            return
        where = f"{path}:{numbers[0]}"
        if len(cells) > header[1]:
            raise UserError(f"{where}: expected {header[1]} cells, got {len(cells)}")
        cells += [""] * (header[1] - len(cells))  # trailing empty cells were stripped with the line's end
        row = {name: cells[place].strip() for name, place in places.items()}
        for name in required:
            if not row[name]:
                raise UserError(f"{where}: the column {name!r} is empty")
        yield Row(where, row)


def _header(
    text: Iterator[str], numbers: list[int], path: Path, required: Columns, optional: Columns
) -> tuple[tuple[str, int], dict[str, int]]:
    """Find the line of column names; return (delimiter, width) and the place of every column."""
    first: list[str] = []
    missing: list[str] = []
    for _ in range(_HEADER_WITHIN):
        line = next(text, None)
        if line is None:
            break
        delimiter = "\t" if "\t" in line else ","
        names = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
        found = _places(names, {**required, **optional}, f"{path}:{numbers[0]}")
        lacking = [name for name in required if name not in found]
        if not lacking:
            return (delimiter, len(names)), found
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
