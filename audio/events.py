"""From probabilities over time to events: smoothing, hysteresis, shortest durations, in a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, is_whole, require


class Event(NamedTuple):
    """Something that was heard.

    Attributes:
        onset: Where it begins, in seconds from the start of the recording.
        offset: Where it ends, in seconds.
        label: What it is.
        mean: Mean probability between the two, before smoothing.
        peak: Largest probability.
    """

    onset: float
    offset: float
    label: str
    mean: float = 1.0
    peak: float = 1.0


@dataclass(frozen=True)
class EventConfig:
    """How probabilities become events.

    Args:
        enter: An event begins where the probability reaches this.
        leave: It ends where the probability falls below this, which is at most ``enter``: a probability that
            wavers between the two neither begins nor ends anything.
        median: Hops of a running median that smooths the probabilities before; odd, 1 for none.
        min_gap: Events of a class that are closer than this many seconds become one.
        min_duration: Events shorter than this many seconds are left out, after that.

    Raises:
        UserError: If a value is out of range.
    """

    _: KW_ONLY
    enter: float = 0.5
    leave: float = 0.3
    median: int = 1
    min_gap: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self) -> None:
        ordered = all(map(is_number, (self.leave, self.enter))) and 0 <= self.leave <= self.enter <= 1
        require(ordered, "leave, enter", "0 <= leave <= enter <= 1", (self.leave, self.enter))
        odd = is_whole(self.median) and self.median % 2 == 1
        require(odd, "median", "an odd number of hops", self.median)
        for name in ("min_gap", "min_duration"):
            value = getattr(self, name)
            require(is_number(value) and value >= 0, name, "a number of seconds >= 0", value)


@dataclass
class _Span:
    """An event in hops: where it began, what was heard of it, and where it was last on."""

    first: int
    total: float = 0.0
    hops: int = 0
    peak: float = 0.0
    end: int = 0

    def extend(self, probabilities: npt.NDArray[np.float64], end: int) -> None:
        """Take in the probabilities of further hops, up to but not including ``end``."""
        if len(probabilities):
            self.total += float(probabilities.sum())
            self.hops += len(probabilities)
            self.peak = max(self.peak, float(probabilities.max()))
        self.end = end


class EventDetector:
    """Finds events in probabilities that come in blocks of any size; memory does not grow with their number.

    Events come out as soon as nothing can change them any more, in the order in which that happens and then
    of the classes; the blocks make no difference.

    Args:
        labels: Class of each column.
        hop: Seconds of a row.
        config: How events are found.

    Raises:
        UserError: If the hop is no positive number.
    """

    def __init__(self, labels: Sequence[str], hop: float, config: EventConfig) -> None:
        require(is_number(hop) and hop > 0, "hop", "a number of seconds > 0", hop)
        self._labels, self._hop, self._config = tuple(labels), hop, config
        self._smoothing = _RunningMedian(config.median, len(self._labels))
        self._gap = round(config.min_gap / hop, 6)
        self._on = np.zeros(len(self._labels), dtype=bool)
        self._open: dict[int, _Span] = {}
        self._closed: dict[int, _Span] = {}  # may still be joined with what follows
        self._hops = 0  # that have been judged
        self._raw = np.empty((0, len(self._labels)))

    def push(self, probabilities: Float[np.ndarray, "hops classes"]) -> list[Event]:
        """Take the next rows and return the events that are now certain.

        Raises:
            UserError: If the number of columns is not that of the labels.
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self._labels):
            raise UserError(f"probabilities: expected (hops, {len(self._labels)}), got {probabilities.shape}")
        self._raw = np.concatenate((self._raw, probabilities.astype(np.float64)))
        return self._judge(self._smoothing.push(probabilities), end=False)

    def finish(self, seconds: float | None = None) -> list[Event]:
        """Return the events that the end of the recording makes certain.

        Args:
            seconds: Its length; events end there at the latest, where the last row reaches beyond.
        """
        events = self._judge(self._smoothing.finish(), end=True)
        return events if seconds is None else [e._replace(offset=min(e.offset, seconds)) for e in events]

    def _judge(self, smooth: npt.NDArray[np.float64], *, end: bool) -> list[Event]:
        raw, self._raw = self._raw[: len(smooth)], self._raw[len(smooth) :]
        on = self._hysteresis(smooth)
        first, self._hops = self._hops, self._hops + len(smooth)
        done: list[tuple[int, int, Event]] = []
        for column in range(len(self._labels)):
            done.extend(self._runs(column, on[:, column], raw[:, column], first))
            done.extend(self._settle(column, self._hops, end=end))
        return [event for *_, event in sorted(done, key=lambda item: item[:2])]

    def _hysteresis(self, smooth: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Tell where each class is on: a hop that decides nothing is as the hop before it."""
        begins, ends = smooth >= self._config.enter, smooth < self._config.leave
        rows = np.arange(1, len(smooth) + 1)[:, None]
        decided = np.maximum.accumulate(np.where(begins | ends, rows, 0), axis=0)
        known = np.concatenate((self._on[None], begins))
        on = np.take_along_axis(known, decided, axis=0)
        if len(on):
            self._on = on[-1]
        return on

    def _runs(
        self, column: int, on: npt.NDArray[np.bool_], raw: npt.NDArray[np.float64], first: int
    ) -> list[tuple[int, int, Event]]:
        """Open and close the spans of one class over a block; return what that made certain."""
        done: list[tuple[int, int, Event]] = []
        was_on = column in self._open
        edges = np.flatnonzero(np.diff(np.concatenate(([was_on], on)).astype(np.int8)))
        position = 0
        for edge in (*edges.tolist(), len(on)):
            span = self._open.get(column)
            if span is not None:
                span.extend(raw[position:edge], first + edge)
                if edge < len(on):
                    self._closed[column] = self._open.pop(column)
            elif edge < len(on):
                done.extend(self._begin(column, first + edge))
            position = edge
        return done

    def _begin(self, column: int, hop: int) -> list[tuple[int, int, Event]]:
        """Open a span, or the one before it once more if that is near enough."""
        done = self._settle(column, hop, end=False)
        self._open[column] = self._closed.pop(column) if column in self._closed else _Span(hop)
        return done

    def _settle(self, column: int, hop: int, *, end: bool) -> list[tuple[int, int, Event]]:
        """Return a class's closed span if nothing that begins at this hop or later can be joined to it."""
        if end and column in self._open:
            self._closed[column] = self._open.pop(column)
        span = self._closed.get(column)
        if span is None or not (end or hop - span.end >= self._gap):
            return []
        del self._closed[column]
        if round((span.end - span.first) * self._hop, 6) < self._config.min_duration:
            return []
        onset, offset = span.first * self._hop, span.end * self._hop
        event = Event(onset, offset, self._labels[column], span.total / span.hops, span.peak)
        return [(span.end + math.ceil(self._gap), column, event)]


class _RunningMedian:
    """Median over a window of rows around each; towards both ends of the recording the window shrinks."""

    def __init__(self, width: int, columns: int) -> None:
        self._half = width // 2
        self._rows = np.empty((0, columns))  # from half a window before the next row on
        self._before = 0  # rows in front of the next one

    def push(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Take rows and return the medians around those whose window is complete."""
        self._rows = np.concatenate((self._rows, rows.astype(np.float64)))
        return self._medians(max(0, len(self._rows) - self._before - self._half))

    def finish(self) -> npt.NDArray[np.float64]:
        """Return the medians around the rows that are left."""
        return self._medians(len(self._rows) - self._before)

    def _medians(self, count: int) -> npt.NDArray[np.float64]:
        rows, half = self._rows, self._half
        places = self._before + np.arange(count)
        medians = rows[places]
        reach = np.minimum(half, np.minimum(places, len(rows) - 1 - places))
        whole = reach == half
        if half and whole.any():
            windows = sliding_window_view(rows, 2 * half + 1, axis=0)
            medians[whole] = np.median(windows[places[whole] - half], axis=-1)
        for row in np.flatnonzero(~whole):
            place, near = places[row], reach[row]
            medians[row] = np.median(rows[place - near : place + near + 1], axis=0)
        kept = max(0, self._before + count - half)
        self._rows, self._before = rows[kept:], self._before + count - kept
        return medians
