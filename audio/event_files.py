"""Reading tables of events."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audio.events import Event
from seqmamba.errors import UserError

_SCORES = ("mean", "peak")


def read_events(path: str | Path) -> dict[str, list[Event]]:
    """Read events by recording: from DCASE's table, or from our CSV, whose probabilities are read too.

    Args:
        path: A ``.tsv`` or ``.csv`` with a header.

    Returns:
        The events of each recording, as they come.

    Raises:
        UserError: If a column is missing, or a line holds no times.
    """
    path = Path(path)
    delimiter = "," if path.suffix == ".csv" else "\t"
    events: dict[str, list[Event]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            pick = _columns(path, reader.fieldnames or ())
            for row in reader:
                name, event = _event(path, reader.line_num, pick(row))
                events.setdefault(name, []).append(event)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a table of events, got {error}") from error
    return events


def _columns(path: Path, header: Sequence[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return what picks file, onset, offset and label from a row, and probabilities if there are any."""
    scores = _SCORES if set(_SCORES) <= set(header) else ()
    for names in (("filename", "onset", "offset", "event_label"), ("file", "onset", "offset", "label")):
        if set(names) <= set(header):
            return lambda row: tuple(row[name] for name in (*names, *scores))
    raise UserError(
        f"{path}: expected columns filename, onset, offset and event_label (or file and label), "
        f"got {', '.join(header) or 'none'}"
    )


def _event(path: Path, line: int, fields: tuple[Any, ...]) -> tuple[str, Event]:
    name, onset, offset, label, *scores = fields
    try:
        event = Event(float(onset), float(offset), str(label), *map(float, scores))
    except (TypeError, ValueError):
        raise UserError(
            f"{path}:{line}: expected onset and offset in seconds, got {onset!r}, {offset!r}"
            + (f", and probabilities, got {', '.join(map(repr, scores))}" if scores else "")
        ) from None
    if not (label and 0 <= event.onset <= event.offset):
        raise UserError(f"{path}:{line}: expected 0 <= onset <= offset and a label, got {fields[1:]}")
    return name, event
