"""The page of a timeline: probabilities over time, and the events in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from audio.event_files import read_events
from audio.events import Event
from audio.plots import Track, clock, tracks
from audio.report.classification import WORDING
from audio.report.sounds import Shown, SoundConfig, Sounds
from audio.report.timeline_values import RecordingValues, read_values
from seqmamba.errors import UserError
from seqmamba.report import summary
from seqmamba.report.markup import Html, bdi, card, table, tag
from seqmamba.report.svg import figure_html
from seqmamba.report.verdict import Finding
from seqmamba.report.words import count, duration, number

MOST_TRACKS = 12
MOST_EVENTS = 200
_EVENT_FILES = (".csv", ".tsv")
_MARGIN = 0.5  # seconds around an event that are played


def timeline_page(
    source: Path, config: SoundConfig, events: Path | None = None
) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of the page of a timeline.

    Args:
        source: Probabilities, ``.parquet``.
        config: How much sound the page may hold.
        events: Table of events, ``.csv`` or ``.tsv``; None looks for one of the same name beside the source.

    Raises:
        UserError: If a file is damaged.
    """
    values = read_values(source)
    beside = next((p for p in map(source.with_suffix, _EVENT_FILES) if p.is_file()), None)
    table_of_events = events or beside
    found = {} if table_of_events is None else read_events(table_of_events)
    unknown = sorted(set(found) - set(values.names))
    if unknown:
        raise UserError(f"{table_of_events}: names {unknown[0]}, of which {source} has no values")
    sounds, title = Sounds(config), f"Timeline {source.name}"
    classes = len(values.drawn[0].labels) if values.drawn else 0
    facts = [
        count(len(values.names), "recording"),
        f"{duration(values.seconds)} of sound",
        f"a value every {number(values.drawn[0].hop)} s" if values.drawn else "",
        f"{classes:,} classes" if classes > 1 else "",
    ]
    left_out = len(values.names) - len(values.drawn)
    more = f"The first {len(values.drawn)} of {len(values.names):,} recordings are drawn." if left_out else ""
    return title, [
        summary.heading(title, facts, WORDING),
        summary.verdict([judge(found, values.seconds, has_table=table_of_events is not None)]),
        *(recording_section(place, recording, found) for place, recording in enumerate(values.drawn)),
        tag("p", more, class_="note") if more else None,
        by_class(found),
        all_events(found),
        *listen(found, sounds),
    ]


def judge(found: Mapping[str, Sequence[Event]], seconds: float, *, has_table: bool) -> Finding:
    """Say how much was found.

    Args:
        found: Events of each recording.
        seconds: Of sound.
        has_table: Whether there is a table of events.
    """
    if not has_table:
        hint = "Write events beside the values: -o NAME.parquet -o NAME.csv."
        return Finding("info", "There is no table of events.", hint)
    events = [event for listed in found.values() for event in listed]
    labels = len({event.label for event in events})
    heard = sum(event.offset - event.onset for event in events)
    headline = f"{count(len(events), 'event')} in {duration(seconds)} of sound."
    words = f"{duration(heard)} of events of {labels:,} class{'es' * (labels != 1)}, overlaps counted twice."
    return Finding("info", headline, words if events else "")


def recording_section(place: int, recording: RecordingValues, found: Mapping[str, Sequence[Event]]) -> Html:
    """Draw the values of a recording over time, of the classes with most events or the highest peaks."""
    events = found.get(recording.name, ())
    heard = {label: [e for e in events if e.label == label] for label in recording.labels}
    peaks = dict(zip(recording.labels, np.nanmax(recording.highest, axis=0), strict=True))
    ranked = sorted(recording.labels, key=lambda label: (-len(heard[label]), -peaks[label]))[:MOST_TRACKS]
    shown = [label for label in recording.labels if label in ranked]
    drawn = []
    for label in shown:
        column = recording.labels.index(label)
        drawn.append(Track(label, recording.mean[:, column], recording.highest[:, column], heard[label]))
    figure = tracks(drawn, (recording.start, recording.end), probabilities=recording.is_probability)
    spoken = "; ".join(
        f"{label}: highest {number(float(peaks[label]))}, {count(len(heard[label]), 'event')}"
        for label in shown
    )
    notes = ["Line: mean of a column of the figure. Shade: its largest value."]
    if events:
        notes.append("Bars above: events.")
    if len(shown) < len(recording.labels):
        notes.append(f"{len(shown)} of {len(recording.labels)} classes, those with most events or peaks.")
    title = f"Values over time of {recording.name}: {spoken}"
    drawing = figure_html(figure, f"timeline-{place}", title=title, caption=" ".join(notes))
    scrolled = tag("div", drawing, class_="wide", tabindex="0", role="region", aria_label=recording.name)
    return tag("section", tag("h2", bdi(recording.name)), tag("div", scrolled, class_="card"))


def by_class(found: Mapping[str, Sequence[Event]]) -> Html | None:
    """Write how often and how long each class was heard; None without events."""
    events = [event for listed in found.values() for event in listed]
    rows = []
    for label in sorted({event.label for event in events}):
        lengths = np.array([event.offset - event.onset for event in events if event.label == label])
        peak = max(event.peak for event in events if event.label == label)
        spans = [f"{float(value):.2f} s" for value in (lengths.sum(), np.median(lengths), lengths.max())]
        rows.append([bdi(label), f"{len(lengths):,}", *spans, number(peak)])
    if not rows:
        return None
    header = ["Class", "Events", "Together", "Median", "Longest", "Highest probability"]
    return tag("section", tag("h2", "Class by class"), table(header, rows, caption="Events by class"))


def all_events(found: Mapping[str, Sequence[Event]]) -> Html | None:
    """List the events in their order; None without any."""
    listed = [(name, event) for name, events in found.items() for event in events]
    if not listed:
        return None
    rows = [
        [
            bdi(event.label),
            bdi(name),
            clock(event.onset),
            f"{event.onset:.3f} s",
            f"{event.offset:.3f} s",
            number(event.mean),
            number(event.peak),
        ]
        for name, event in listed[:MOST_EVENTS]
    ]
    header = ["Class", "Recording", "At", "Onset", "Offset", "Mean", "Peak"]
    more = f"The first {MOST_EVENTS} of {len(listed):,}." if len(listed) > MOST_EVENTS else ""
    listing = card("In their order", table(header, rows, numeric_from=2, caption="Events"), full=True)
    note = tag("p", more, class_="note") if more else None
    return tag("section", tag("h2", "Events"), note, tag("div", listing, class_="pair"))


def listen(found: Mapping[str, Sequence[Event]], sounds: Sounds) -> list[Html | None]:
    """Write players of the surest events, if the recordings were given."""
    if not sounds.config.recordings:
        return []
    listed = [(name, event) for name, events in found.items() for event in events]
    ranked = sorted(listed, key=lambda entry: -entry[1].peak)[: 2 * sounds.config.clips]
    shown = []
    for name, event in ranked:
        start = max(0.0, event.onset - _MARGIN)
        title = f"{event.label}, {name} at {clock(event.onset)}"
        words = f"{event.onset:.3f} to {event.offset:.3f} s, highest probability {number(event.peak)}"
        shown.append(Shown(name, title, (words,), start, event.offset + _MARGIN - start))
    intro = f"The events with the highest probabilities, and {_MARGIN:g} s around them."
    return [sounds.section("Listen", intro, shown), sounds.note()]
