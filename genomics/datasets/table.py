"""Layout 2: one FASTA file, and a table with a label, or several, for every sequence."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genomics.datasets.class_fastas import PathOrPaths, as_paths
from genomics.datasets.labels import MISSING, class_numbers, guess_task, multilabel_matrix, regression_matrix
from genomics.datasets.records import (
    PART_NAMES,
    LabelledSequences,
    Task,
    TokenStore,
    header_intervals,
    normalise_part,
)
from genomics.fasta import FastaRecord, read_fasta
from genomics.files import decode_text, read_lines
from seqmamba.errors import UserError
from seqmamba.paths import expand

_NAME_COLUMNS = ("name", "id", "seq_id", "seqid", "sequence_id", "sequence_name", "accession", "header")
_LABEL_COLUMNS = ("label", "labels", "class", "classes", "target")
_SPLIT_COLUMNS = ("split", "partition", "subset", "set", "part")
_MOST_SHOWN = 3


@dataclass(frozen=True)
class LabelTable:
    """A table of labels as text, one row a sequence.

    Attributes:
        names: Sequence names, each once.
        targets: Names of the label columns.
        columns: Cells of the label columns, one list a column.
        parts: The split column, or None.
        lines: Line number of every row.
        ignored: Names of the columns that are not used.
    """

    names: list[str]
    targets: list[str]
    columns: list[list[str]]
    parts: list[str] | None
    lines: list[int]
    ignored: list[str]


def from_table(fasta: PathOrPaths, table: str | Path, task: Task | None = None) -> LabelledSequences:
    """Read sequences from FASTA and their labels from a table, matched by name.

    The table is separated by tabs or commas. Its columns are found by their names: ``name`` (or id, seq_id,
    ...; else the first column), optionally ``split``, and the rest are labels. A table of two columns needs
    no header line.

    Args:
        fasta: One FASTA file or several.
        table: The table, plain or gzip.
        task: What the labels mean; None guesses (see `guess_task`).

    Returns:
        The records in the order of the FASTA file, with ``file:line`` of the table as their sources.

    Raises:
        UserError: With file and line: a sequence without a label or the other way round, a name that comes
            twice, an empty cell, a cell that does not fit the task, a class that is too small.
    """
    table = expand(table)
    labels = read_label_table(table)
    records = _read_all(fasta)
    rows = _match(records, labels, table)
    sources = [f"{table}:{labels.lines[row]}" for row in rows]
    columns = [[column[row] for row in rows] for column in labels.columns]
    task = task or guess_task(columns)
    classes: tuple[str, ...] = tuple(labels.targets)
    if task == "classification":
        if len(columns) > 1:
            raise UserError(
                f"{table}: classification needs one label column, got {', '.join(labels.targets)}",
                hint="remove the others, or choose the task multilabel or regression",
            )
        values, classes = class_numbers(columns[0], sources)
    elif task == "multilabel":
        values, classes = multilabel_matrix(columns, labels.targets, sources)
    else:
        values = regression_matrix(columns, labels.targets, sources)
    tokens = TokenStore.from_letters([record.sequence for record in records])
    intervals, notes = header_intervals([record.header for record in records], tokens.lengths)
    ignored = [f"{table}: not used: {', '.join(labels.ignored)}"] if labels.ignored else []
    split = None
    if labels.parts is not None:
        split = np.array([normalise_part(labels.parts[row], f"{table}:{labels.lines[row]}") for row in rows])
    return LabelledSequences(
        names=[record.name for record in records],
        tokens=tokens,
        labels=values,
        classes=classes,
        task=task,
        intervals=intervals,
        split=split,
        sources=sources,
        notes=(*notes, *ignored),
    )


def read_label_table(path: str | Path) -> LabelTable:
    """Read a table of labels, separated by tabs or commas.

    Raises:
        UserError: With file and line, for a row with too few or too many cells, an empty cell, or a repeated
            name.
    """
    rows = [
        (number, decode_text(line)) for number, line in read_lines(path) if line.strip() and line[:1] != b"#"
    ]
    if not rows:
        raise UserError(f"{path}: holds no row")
    delimiter = "\t" if "\t" in rows[0][1] else ","
    reader = csv.reader((text for _, text in rows), delimiter=delimiter)
    try:
        cells = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}:{rows[reader.line_num - 1][0]}: cannot be read as a table ({error})"
        ) from None
    if len(cells) != len(rows):
        raise UserError(
            f"{path}: has a quoted cell that runs over several lines", hint="remove the line break"
        )
    lines = [number for number, _ in rows]
    header, cells, lines = _header(cells, lines, path)
    _check_cells(header, cells, lines, path)
    lower = [name.lower() for name in header]
    name_column = next((lower.index(name) for name in _NAME_COLUMNS if name in lower), 0)
    split_column = next((lower.index(name) for name in _SPLIT_COLUMNS if name in lower), None)
    others = [i for i in range(len(header)) if i not in (name_column, split_column)]
    if not others:
        raise UserError(f"{path}:{lines[0]}: expected a label column beside {', '.join(header)}")
    targets = [i for i in others if lower[i] in _LABEL_COLUMNS] or others
    names = [next(iter(row[name_column].removeprefix(">").split()), "") for row in cells]
    _check_names(names, lines, path)
    return LabelTable(
        names=names,
        targets=[header[i] for i in targets],
        columns=[[row[i] for row in cells] for i in targets],
        parts=None if split_column is None else [row[split_column] for row in cells],
        lines=lines,
        ignored=[header[i] for i in others if i not in targets],
    )


def _header(
    cells: list[list[str]], lines: list[int], path: str | Path
) -> tuple[list[str], list[list[str]], list[int]]:
    """Take the header line off, or make one up for a bare table of names, labels and perhaps parts."""
    first = [cell.lower() for cell in cells[0]]
    if len(first) < 2:
        raise UserError(
            f"{path}:{lines[0]}: expected a name and a label with a tab or comma between, got {cells[0][0]!r}"
        )
    named = not {*_NAME_COLUMNS, *_SPLIT_COLUMNS, *_LABEL_COLUMNS}.isdisjoint(first)
    if named:
        if len(cells) == 1:
            raise UserError(f"{path}: holds no row below its header")
        repeated = next((cell for cell in first if first.count(cell) > 1), None)
        if repeated is not None:
            raise UserError(f"{path}:{lines[0]}: two columns are named {repeated!r}")
        return cells[0], cells[1:], lines[1:]
    if len(first) == 2:
        return ["name", "label"], cells, lines
    if len(first) == 3 and all(row[-1].lower() in PART_NAMES for row in cells):
        return ["name", "label", "split"], cells, lines
    raise UserError(
        f"{path}:{lines[0]}: expected a header line such as 'name  label  split', got {cells[0]!r}",
        hint="call the first column name",
    )


def _check_cells(header: list[str], cells: list[list[str]], lines: list[int], path: str | Path) -> None:
    for row, line in zip(cells, lines, strict=True):
        row += [""] * (len(header) - len(row))  # trailing white space was stripped with empty last cells
        if len(row) != len(header):
            raise UserError(f"{path}:{line}: expected {len(header)} cells, got {len(row)}")
        for cell, name in zip(row, header, strict=True):
            if cell.lower() in MISSING:
                raise UserError(
                    f"{path}:{line}: the column {name!r} is empty ({cell!r})",
                    hint="every sequence needs a label; remove the rows and sequences without one",
                )


def _check_names(names: Sequence[str], lines: Sequence[int], path: str | Path) -> None:
    first: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        if not name:
            raise UserError(f"{path}:{line}: has no name")
        if name in first:
            raise UserError(f"{path}:{line}: the name {name!r} was already used at line {first[name]}")
        first[name] = line


def _read_all(fasta: PathOrPaths) -> list[FastaRecord]:
    records: list[FastaRecord] = []
    origin: dict[str, str] = {}
    for path in as_paths(fasta):
        for record in read_fasta(path):
            where = f"{path}:{record.line}"
            if record.name in origin:
                raise UserError(
                    f"{where}: the name {record.name!r} was already used at {origin[record.name]}"
                )
            origin[record.name] = where
            records.append(record)
    return records


def _match(records: list[FastaRecord], labels: LabelTable, table: str | Path) -> list[int]:
    row_of = {name: row for row, name in enumerate(labels.names)}
    missing = [record for record in records if record.name not in row_of]
    if missing:
        shown = ", ".join(f"{record.name!r} (line {record.line})" for record in missing[:_MOST_SHOWN])
        raise UserError(
            f"{table}: has no label for {len(missing)} of {len(records)} sequences, for example {shown}",
            hint="the name is the FASTA header up to the first space",
        )
    known = {record.name for record in records}
    unknown = [row for row, name in enumerate(labels.names) if name not in known]
    if unknown:
        row = unknown[0]
        raise UserError(
            f"{table}:{labels.lines[row]}: {labels.names[row]!r} is not in the FASTA file "
            f"({len(unknown)} of {len(labels.names)} rows have no sequence)",
            hint="remove these rows or add the sequences",
        )
    return [row_of[record.name] for record in records]
