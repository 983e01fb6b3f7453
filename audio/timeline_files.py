"""Files of a timeline: events for spreadsheets, Audacity, Raven and DCASE; probabilities as Parquet."""

from __future__ import annotations

import csv
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from jaxtyping import Float

from audio.events import Event
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

if TYPE_CHECKING:
    import pyarrow.parquet

PARQUET = ".parquet"
_ROW_GROUP = 8_192
_RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Annotation",
    "Score",
)


@dataclass(frozen=True)
class Recording:
    """What the lines of a timeline say of the recording.

    Args:
        name: Its file's name.
        rate: Its samples a second; half of it is the highest frequency.
    """

    name: str
    rate: int


class EventTable(ABC):
    """Writes events line by line; the same recording may be followed by others.

    Args:
        file: Open for text.
    """

    header: tuple[str, ...] = ()
    delimiter = "\t"

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(file, delimiter=self.delimiter, lineterminator="\n")
        self._n_events = 0
        if self.header:
            self._writer.writerow(self.header)

    def write(self, event: Event, recording: Recording) -> None:
        """Write one event; it is in the file at once."""
        self._n_events += 1
        self._writer.writerow(self.row(event, recording))
        self._file.flush()

    @abstractmethod
    def row(self, event: Event, recording: Recording) -> Sequence[str]:
        """Return the fields of its line."""


class CommaTable(EventTable):
    """CSV with a header: file, onset and offset in seconds, label, mean and peak probability."""

    header = ("file", "onset", "offset", "label", "mean", "peak")
    delimiter = ","

    def row(self, event: Event, recording: Recording) -> Sequence[str]:
        """Return the fields of its line."""
        times = (f"{event.onset:.6f}", f"{event.offset:.6f}")
        return (recording.name, *times, event.label, f"{event.mean:.4f}", f"{event.peak:.4f}")


class AudacityLabels(EventTable):
    """Audacity's label track: onset, offset, label; of one recording."""

    def row(self, event: Event, recording: Recording) -> Sequence[str]:
        """Return the fields of its line."""
        return (f"{event.onset:.6f}", f"{event.offset:.6f}", event.label)


class RavenTable(EventTable):
    """Raven's selection table, over the whole band; of one recording."""

    header = _RAVEN_COLUMNS

    def row(self, event: Event, recording: Recording) -> Sequence[str]:
        """Return the fields of its line."""
        times = (f"{event.onset:.6f}", f"{event.offset:.6f}")
        band = ("0.0", f"{recording.rate / 2:.1f}")
        first = (str(self._n_events), "Spectrogram 1", "1")
        return (*first, *times, *band, event.label, f"{event.mean:.4f}")


class DcaseTable(EventTable):
    """The table of DCASE and sed_eval: filename, onset, offset, event_label."""

    header = ("filename", "onset", "offset", "event_label")

    def row(self, event: Event, recording: Recording) -> Sequence[str]:
        """Return the fields of its line."""
        return (recording.name, f"{event.onset:.6f}", f"{event.offset:.6f}", event.label)


FORMATS: dict[str, type[EventTable]] = {
    "csv": CommaTable,
    "audacity": AudacityLabels,
    "raven": RavenTable,
    "dcase": DcaseTable,
}
_ENDINGS = {".csv": "csv", ".selections.txt": "raven", ".txt": "audacity", ".tsv": "dcase"}
_OF_ONE_RECORDING = ("audacity", "raven")


def event_format(path: str | Path, *, recordings: int = 1) -> str:
    """Return the format that a file's name asks for.

    Args:
        path: The file.
        recordings: How many are to be written to it.

    Raises:
        UserError: If it ends in no known way, or the format holds one recording and there are more.
    """
    name = Path(path).name.lower()
    found = next((form for ending, form in _ENDINGS.items() if name.endswith(ending)), None)
    if found is None:
        known = ", ".join((*_ENDINGS, PARQUET))
        raise UserError(f"{path}: expected a name that ends in one of {known}")
    if found in _OF_ONE_RECORDING and recordings > 1:
        raise UserError(
            f"{path}: the format {found} holds one recording, got {recordings}",
            hint="write .csv or .tsv, or run the recordings one by one",
        )
    return found


class ProbabilityTable:
    """Writes probabilities over time as Parquet, in bounded memory: file, start, end, then a column a class.

    Rows wait in one buffer: small pieces that stay between large ones that go would keep the latter's memory
    from the system.

    Args:
        path: The file.
        labels: Names of the classes.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        import pyarrow
        import pyarrow.parquet

        fields: list[Any] = [("file", pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))]
        fields += [("start", pyarrow.float64()), ("end", pyarrow.float64())]
        fields += [(label, pyarrow.float32()) for label in labels]
        self._schema = pyarrow.schema(fields)
        self._writer: pyarrow.parquet.ParquetWriter = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._times = np.empty((_ROW_GROUP, 2))
        self._values = np.empty((_ROW_GROUP, len(labels)), dtype=np.float32)
        self._rows, self._name = 0, ""

    def write(
        self, probabilities: Float[np.ndarray, "hops classes"], starts: Float[np.ndarray, " edges"], name: str
    ) -> None:
        """Write the next rows.

        Args:
            probabilities: One row a hop.
            starts: Where each hop begins and the last one ends, in seconds: one more than there are rows.
            name: The recording's file name.
        """
        if name != self._name:
            self._flush()
            self._name = name
        done = 0
        while done < len(probabilities):
            count = min(len(probabilities) - done, _ROW_GROUP - self._rows)
            free = slice(self._rows, self._rows + count)
            self._values[free] = probabilities[done : done + count]
            self._times[free, 0] = starts[done : done + count]
            self._times[free, 1] = starts[done + 1 : done + count + 1]
            self._rows, done = self._rows + count, done + count
            if self._rows == _ROW_GROUP:
                self._flush()

    def close(self) -> None:
        """Write what is waiting and end the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        if self._rows:
            names = pyarrow.array([self._name] * self._rows).dictionary_encode()
            columns = [*self._times[: self._rows].T, *self._values[: self._rows].T]
            arrays = [names, *(np.ascontiguousarray(column) for column in columns)]
            self._writer.write_table(pyarrow.table(arrays, schema=self._schema))
        self._rows = 0


class TimelineWriter:
    """All files of a timeline together.

    Args:
        tables: Where events go.
        probabilities: Where probabilities go.
    """

    def __init__(self, tables: Sequence[EventTable], probabilities: Sequence[ProbabilityTable]) -> None:
        self._tables, self._probabilities = tables, probabilities

    def events(self, events: Sequence[Event], recording: Recording) -> None:
        """Write events."""
        for event in events:
            for table in self._tables:
                table.write(event, recording)

    def values(
        self, values: Float[np.ndarray, "hops classes"], starts: Float[np.ndarray, " edges"], name: str
    ) -> None:
        """Write probabilities, or other values; see `ProbabilityTable.write`."""
        for table in self._probabilities:
            table.write(values, starts, name)


@contextmanager
def open_timeline(
    outputs: Sequence[Path], labels: Sequence[str], *, recordings: int = 1
) -> Iterator[TimelineWriter]:
    """Open files for a timeline; they appear whole, or not at all when the block raises.

    Args:
        outputs: Files; their names tell the formats. Without any, events go to standard output as CSV.
        labels: Names of the classes.
        recordings: How many are to be written.

    Yields:
        What to write to.

    Raises:
        UserError: If a name tells no format.
    """
    formats = [None if p.suffix == PARQUET else event_format(p, recordings=recordings) for p in outputs]
    with ExitStack() as stack:
        tables: list[EventTable] = [] if outputs else [CommaTable(sys.stdout)]
        stores: list[ProbabilityTable] = []
        for path, form in zip(outputs, formats, strict=True):
            part = stack.enter_context(atomic_path(path))
            if form is None:
                stores.append(ProbabilityTable(part, labels))
                stack.callback(stores[-1].close)
            else:
                file = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
                tables.append(FORMATS[form](file))
        yield TimelineWriter(tables, stores)
