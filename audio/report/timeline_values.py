"""Reading the values of a timeline for a figure: columns of equal length, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from seqmamba.errors import UserError

if TYPE_CHECKING:
    import pyarrow.parquet

COLUMNS = 800
"""Of a figure; a recording of fewer values has as many."""

MOST_RECORDINGS = 12
_TIMES = ("file", "start", "end")


@dataclass(frozen=True)
class RecordingValues:
    """What a model said of a recording.

    Attributes:
        name: Its file's name.
        start: Where the first value begins, in seconds.
        end: Where the last one ends.
        hop: Seconds of a value.
        labels: Names of the classes.
        mean: Mean of the values of each column and class; NaN where there are none.
        highest: The largest of them.
        lowest: The smallest value of all.
    """

    name: str
    start: float
    end: float
    hop: float
    labels: tuple[str, ...]
    mean: Float[np.ndarray, "columns classes"]
    highest: Float[np.ndarray, "columns classes"]
    lowest: float

    @property
    def is_probability(self) -> bool:
        """Whether all values lie between 0 and 1."""
        return self.lowest >= 0 and not np.nanmax(self.highest, initial=0) > 1


@dataclass(frozen=True)
class TimelineValues:
    """What a model said of several recordings.

    Attributes:
        names: All recordings, in the order in which they come.
        seconds: Of sound, all of them together.
        drawn: The values of the first `MOST_RECORDINGS` of them.
    """

    names: tuple[str, ...]
    seconds: float
    drawn: list[RecordingValues]


@dataclass
class _Span:
    """Begin, end and number of the values of a recording."""

    start: float = np.inf
    end: float = -np.inf
    rows: int = 0


class _Columns:
    """Sums, counts and largest values of the columns of a recording."""

    def __init__(self, span: _Span, classes: int) -> None:
        self.span, self.count = span, min(COLUMNS, span.rows)
        self.total = np.zeros((self.count, classes))
        self.highest = np.full((self.count, classes), -np.inf)
        self.rows = np.zeros(self.count, dtype=np.int64)
        self.lowest = np.inf

    def add(self, middle: np.ndarray, values: np.ndarray) -> None:
        """Take in some values and the times of their middles."""
        share = (middle - self.span.start) / max(self.span.end - self.span.start, 1e-9)
        column = np.clip((share * self.count).astype(np.int64), 0, self.count - 1)
        np.add.at(self.total, column, values)
        np.maximum.at(self.highest, column, values)
        self.rows += np.bincount(column, minlength=self.count)
        self.lowest = min(self.lowest, float(values.min(initial=np.inf)))


def read_values(path: Path) -> TimelineValues:
    """Read the values that ``audio timeline`` wrote, in columns.

    Args:
        path: A ``.parquet`` file.

    Raises:
        UserError: If it cannot be read, or is no timeline.
    """
    file = _open(path)
    labels = tuple(name for name in file.schema_arrow.names if name not in _TIMES)
    spans: dict[str, _Span] = {}
    for name, start, end, _ in _parts(file, ()):
        span = spans.setdefault(name, _Span())
        span.start, span.end = min(span.start, float(start.min())), max(span.end, float(end.max()))
        span.rows += len(start)
    columns = {name: _Columns(spans[name], len(labels)) for name in list(spans)[:MOST_RECORDINGS]}
    for name, start, end, values in _parts(file, labels):
        if name in columns:
            columns[name].add((start + end) / 2, values)
    drawn = [_finished(name, found, labels) for name, found in columns.items()]
    return TimelineValues(tuple(spans), sum(span.end - span.start for span in spans.values()), drawn)


def _finished(name: str, found: _Columns, labels: tuple[str, ...]) -> RecordingValues:
    empty = found.rows == 0
    with np.errstate(invalid="ignore"):
        mean = found.total / np.where(empty, np.nan, found.rows)[:, None]
    highest = np.where(empty[:, None], np.nan, found.highest)
    span = found.span
    hop = (span.end - span.start) / span.rows
    return RecordingValues(name, span.start, span.end, hop, labels, mean, highest, found.lowest)


def _open(path: Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    missing = [name for name in _TIMES if name not in file.schema_arrow.names]
    if missing:
        raise UserError(
            f"{path}: expected a timeline with columns {', '.join(_TIMES)}; {missing[0]} is missing"
        )
    return file


def _parts(
    file: pyarrow.parquet.ParquetFile, labels: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield stretches of one recording: its name, the begins and the ends, and the values of some classes."""
    for batch in file.iter_batches(columns=[*_TIMES, *labels]):
        names: Any = np.asarray(batch.column("file").to_pylist(), dtype=object)
        start, end = (batch.column(name).to_numpy() for name in ("start", "end"))
        values = np.empty((len(names), len(labels)))
        for place, label in enumerate(labels):
            values[:, place] = batch.column(label).to_numpy()
        cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
        for rows in np.split(np.arange(len(names)), cuts):
            if len(rows):
                yield str(names[rows[0]]), start[rows], end[rows], values[rows]
