"""Event-based scores of sound event detection, as sed_eval defines them.

Mesaros et al. 2016, "Metrics for polyphonic sound event detection", Applied Sciences 6(6):162, section 4.2.
An estimated event is right if there is a reference event of the same label with its onset within a collar and
its offset within a collar or a share of the reference's length, whichever is more. Each event counts once,
and as many as possible are paired.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx
from networkx.algorithms.bipartite import hopcroft_karp_matching

from audio.events import Event
from seqmamba.nn.options import is_number, require

_ROUNDING = 1e-9  # seconds, so that 0.3 - 0.1 is within a collar of 0.2


@dataclass(frozen=True)
class Tolerance:
    """How far an estimated event may be off.

    Args:
        onset: Seconds at its onset.
        offset: Seconds at its offset.
        offset_share: Or this share of the reference event's length, if that is more. None: offsets do not
            count.

    Raises:
        UserError: If a value is negative.
    """

    onset: float = 0.2
    offset: float = 0.2
    offset_share: float | None = 0.5

    def __post_init__(self) -> None:
        for name in ("onset", "offset", "offset_share"):
            value = getattr(self, name)
            fine = (name == "offset_share" and value is None) or (is_number(value) and value >= 0)
            require(fine, name, "a number >= 0", value)


@dataclass(frozen=True)
class EventCounts:
    """Events of a class.

    Attributes:
        reference: In the reference.
        estimated: Found.
        matched: Found and right.
    """

    reference: int = 0
    estimated: int = 0
    matched: int = 0

    @property
    def precision(self) -> float:
        """Share of the found events that are right; NaN if none was found."""
        return self.matched / self.estimated if self.estimated else float("nan")

    @property
    def recall(self) -> float:
        """Share of the reference's events that were found; NaN if there is none."""
        return self.matched / self.reference if self.reference else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; NaN where there are neither reference nor found events."""
        total = self.reference + self.estimated
        return 2 * self.matched / total if total else float("nan")

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(
            self.reference + other.reference, self.estimated + other.estimated, self.matched + other.matched
        )


def count_events(
    reference: Mapping[str, Sequence[Event]], estimated: Mapping[str, Sequence[Event]], tolerance: Tolerance
) -> dict[str, EventCounts]:
    """Pair the events of recordings, label by label.

    Args:
        reference: True events of each recording.
        estimated: Found events of each recording.
        tolerance: How far they may be off.

    Returns:
        Counts of each label that occurs, over all recordings; labels in alphabetical order.
    """
    counts: dict[str, EventCounts] = {}
    for name in sorted({*reference, *estimated}):
        true, found = reference.get(name, ()), estimated.get(name, ())
        for label in {event.label for event in (*true, *found)}:
            here = [event for event in true if event.label == label]
            there = [event for event in found if event.label == label]
            new = EventCounts(len(here), len(there), _most_pairs(here, there, tolerance))
            counts[label] = counts.get(label, EventCounts()) + new
    return dict(sorted(counts.items()))


def all_labels(counts: Mapping[str, EventCounts]) -> EventCounts:
    """Return the counts of all labels together."""
    return sum(counts.values(), EventCounts())


def _most_pairs(reference: Sequence[Event], estimated: Sequence[Event], tolerance: Tolerance) -> int:
    """Return the size of the largest pairing of events of one label."""
    graph = networkx.Graph()
    ordered = sorted(estimated, key=lambda event: event.onset)
    onsets = [event.onset for event in ordered]
    for i, event in enumerate(reference):
        collar = tolerance.onset + _ROUNDING
        low, high = bisect_left(onsets, event.onset - collar), bisect_right(onsets, event.onset + collar)
        for j in range(low, high):
            if _ends_alike(event, ordered[j], tolerance):
                graph.add_edge(("reference", i), ("estimated", j))
    top = [node for node in graph if node[0] == "reference"]
    return len(hopcroft_karp_matching(graph, top)) // 2


def _ends_alike(reference: Event, estimated: Event, tolerance: Tolerance) -> bool:
    if tolerance.offset_share is None:
        return True
    length = reference.offset - reference.onset
    allowed = max(tolerance.offset, tolerance.offset_share * length) + _ROUNDING
    return abs(reference.offset - estimated.offset) <= allowed
