"""Tables of recordings: CSV, TSV, or JSON lines, with one row for each file or stretch of a file.

Columns are found by the names that data sets and toolkits use: ``path``, ``file_name`` or
``audio_filepath``; ``start`` or ``offset`` and ``duration`` in seconds; ``label``, ``category`` or
``labels`` (several, a list in JSON, else separated by ``;``, ``,`` or ``|``); ``group`` or ``speaker``;
``split``; ``fold``. A duration is that of the stretch, not of the file. Where there is a column ``onset``,
``offset`` is the end of an event, as in DCASE's tables.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seqmamba.errors import UserError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")

_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "audio_filepath", "filename", "file", "wav", "audio"),
    "start": ("start", "start_seconds", "onset", "begin", "offset"),
    "end": ("end", "end_seconds", "stop"),
    "duration": ("duration", "duration_seconds"),
    "label": ("label", "labels", "class", "category", "event_label", "target"),
    "group": ("group", "speaker", "speaker_id", "client_id"),
    "split": ("split", "subset", "partition"),
    "fold": ("fold",),
}
_ENDS_OF_EVENTS = "offset"
_SEVERAL = "labels"
_SEPARATORS = re.compile(r"[;,|]")


@dataclass(frozen=True)
class ColumnsConfig:
    """Names of the columns of a table; None finds a column by the usual names.

    Args:
        path: Path of the file.
        start: Where the stretch begins, in seconds.
        end: Where it ends, in seconds.
        duration: How long it is, in seconds.
        label: Its class, classes or number.
        group: What it shares with others, for example the speaker.
        split: Its part of the data set.
        fold: Its fold.
    """

    path: str | None = None
    start: str | None = None
    end: str | None = None
    duration: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    fold: str | None = None


@dataclass(frozen=True)
class Row:
    """A row, its cells understood.

    Attributes:
        path: As written.
        start_seconds: Where the stretch begins.
        duration_seconds: Its length; None up to the end.
        labels: Class names, or numbers as text.
        group: None where there is none; likewise the next two.
        split: As written.
        fold: As written.
        source: ``table:line``.
    """

    path: str
    start_seconds: float
    duration_seconds: float | None
    labels: tuple[str, ...]
    group: str | None
    split: str | None
    fold: str | None
    source: str


def read_rows(table: Path, columns: ColumnsConfig) -> list[Row]:
    """Read a table.

    Args:
        table: The file; its ending says what it is.
        columns: Names of its columns.

    Raises:
        UserError: If the file is no such table, has no rows or no column of paths, or a cell does not fit.
    """
    suffix = table.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise UserError(f"{table}: expected a folder, or a table that ends in {', '.join(TABLE_SUFFIXES)}")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{table}: is not text in UTF-8") from None
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror})") from None
    cells = _json_cells(table, text) if suffix == ".jsonl" else _cells(table, text, suffix)
    rows, names = [], None
    try:
        for line, row in cells:
            if names is None or suffix == ".jsonl":  # objects need not have the same names
                names = _find_columns(table, list(row), columns)
            rows.append(_row(row, names, f"{table}:{line}"))
    except csv.Error as error:
        raise UserError(f"{table}: is no table ({error})") from None
    if not rows:
        raise UserError(f"{table}: has no rows")
    return rows


def _cells(table: Path, text: str, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(text.splitlines(), delimiter="\t" if suffix == ".tsv" else ",")
    header: list[str] | None = None
    for row in reader:
        if not row:
            continue
        if header is None:
            header = [name.strip() for name in row]
            if len(set(header)) < len(header):
                raise UserError(f"{table}: a column name comes twice in {', '.join(header)}")
        elif len(row) != len(header):
            raise UserError(f"{table}:{reader.line_num}: expected {len(header)} columns, got {len(row)}")
        else:
            yield reader.line_num, dict(zip(header, row, strict=True))


def _json_cells(table: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{table}:{number}: is no JSON ({reason})") from None
        if not isinstance(row, dict):
            raise UserError(f"{table}:{number}: expected a JSON object, got {type(row).__name__}")
        yield number, row


def _find_columns(table: Path, header: list[str], columns: ColumnsConfig) -> dict[str, str]:
    """Return the column of each field that the table has."""
    lower = {name.lower(): name for name in header}
    found = {}
    for key, wanted in asdict(columns).items():
        if wanted is not None:
            if wanted not in header:
                raise UserError(f"{table}: columns.{key}: no {wanted!r} among {', '.join(header)}")
            found[key] = wanted
        elif usual := [lower[name] for name in _NAMES[key] if name in lower]:
            found[key] = usual[0]
    if found.get("start", "").lower() == "onset" and "end" not in found and _ENDS_OF_EVENTS in lower:
        found["end"] = lower[_ENDS_OF_EVENTS]
    if "path" not in found:
        raise UserError(
            f"{table}: no column holds the files among {', '.join(header)}",
            hint="name it file_name, or give columns.path",
        )
    return found


def _row(row: dict[str, Any], names: dict[str, str], source: str) -> Row:
    path = _text(row, names, "path")
    if path is None:
        raise UserError(f"{source}: {names['path']}: expected a file, got nothing")
    start = _seconds(row, names, "start", source) or 0.0
    duration, end = (_seconds(row, names, key, source) for key in ("duration", "end"))
    if duration is None and end is not None:
        if end <= start:
            raise UserError(f"{source}: {names['end']}: expected an end behind {start:g} s, got {end:g} s")
        duration = end - start
    return Row(
        path,
        start,
        duration,
        _labels(row, names, source),
        _text(row, names, "group"),
        _text(row, names, "split"),
        _text(row, names, "fold"),
        source,
    )


def _text(row: dict[str, Any], names: dict[str, str], key: str) -> str | None:
    value = row.get(names.get(key, ""))
    return None if value is None else str(value).strip() or None


def _seconds(row: dict[str, Any], names: dict[str, str], key: str, source: str) -> float | None:
    text = _text(row, names, key)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{source}: {names[key]}: expected seconds, got {text!r}")
    return value


def _labels(row: dict[str, Any], names: dict[str, str], source: str) -> tuple[str, ...]:
    value = row.get(names.get("label", ""))
    if isinstance(value, dict):
        raise UserError(f"{source}: {names['label']}: expected a label or a list of them, got an object")
    if isinstance(value, list):
        parts = [str(part) for part in value]
    else:
        text = _text(row, names, "label") or ""
        parts = _SEPARATORS.split(text) if names.get("label", "").lower() == _SEVERAL else [text]
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
