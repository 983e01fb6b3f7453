"""Frames and what is heard in each: tables of events as targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from audio.events import Event
from audio.manifests import Clip
from seqmamba.errors import UserError


def gather_events(clips: Sequence[Clip]) -> tuple[list[Clip], list[list[Event]]]:
    """Make a recording and its events of the lines of a table of events.

    Each line of such a table is a stretch of a file with a label; a line without a label, as DCASE has it,
    names a file in which nothing is heard.

    Args:
        clips: One for each line.

    Returns:
        One clip for each file, with all labels that occur in it, and its events by onset.

    Raises:
        UserError: If a label has no time.
    """
    files: dict[object, list[Clip]] = {}
    for clip in clips:
        files.setdefault(clip.path, []).append(clip)
    recordings, events = [], []
    for lines in files.values():
        heard = [_event(line, label) for line in lines for label in line.labels]
        names = tuple(sorted({event.label for event in heard}))
        recordings.append(replace(lines[0], start_seconds=0.0, duration_seconds=None, labels=names))
        events.append(sorted(heard))
    return recordings, events


def _event(line: Clip, label: str) -> Event:
    if line.duration_seconds is None:
        raise UserError(
            f"{line.source or line.path}: tagging: {label!r} has no times",
            hint="write a table with the columns filename, onset, offset and event_label",
        )
    return Event(line.start_seconds, line.start_seconds + line.duration_seconds, label)


def frame_targets(
    events: Sequence[Event],
    classes: Sequence[str],
    *,
    start: int,
    samples: int,
    rate: int,
    frame: int,
) -> Float[Tensor, "frames classes"]:
    """Return what is heard in each frame: 1 where an event covers the middle of the frame.

    Args:
        events: Times in seconds from the start of the recording.
        classes: Their names, in the order of the columns.
        start: First sample of the stretch within the recording.
        samples: Its length; the last frame may be shorter.
        rate: Samples a second.
        frame: Samples of a frame.
    """
    columns = {name: number for number, name in enumerate(classes)}
    count = -(-samples // frame)
    middles = (start + frame / 2 + frame * torch.arange(count, dtype=torch.float64)) / rate
    target = torch.zeros(count, len(classes))
    for event in events:
        target[(middles >= event.onset) & (middles < event.offset), columns[event.label]] = 1
    return target
