"""One labelled stretch of a recording, as every layout of files is read into."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from audio.events import Event
from seqmamba.errors import UserError

_PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
PART_OF_NAME = {name: part for part, names in _PARTS.items() for name in names}
"""What people call the parts of a split -> train, validation or test."""


@dataclass(frozen=True)
class Clip:
    """A recording, or a stretch of one, and what is known of it.

    Attributes:
        path: The file.
        name: What predictions call it: the path as the source has it, with the stretch if it is one.
        start_seconds: Where it begins.
        duration_seconds: Length of the stretch, not of the file; None reaches to the end.
        labels: One name for classification, any number for multi-label, numbers for regression.
        group: What must not be divided between training and testing: a speaker, a session, a source.
        split: ``train``, ``validation`` or ``test`` where the source says so.
        fold: Fold of a published cross-validation.
        events: What is heard when, in seconds from the start of the file; None where that is not known.

    Raises:
        UserError: If the stretch has no length or begins before the file.
    """

    path: Path
    _: KW_ONLY
    name: str = ""
    start_seconds: float = 0.0
    duration_seconds: float | None = None
    labels: tuple[str, ...] = ()
    group: str | None = None
    split: str | None = None
    fold: str | None = None
    events: tuple[Event, ...] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_seconds) and self.start_seconds >= 0):
            raise UserError(f"{self.path}: expected a start of 0 s or more, got {self.start_seconds}")
        duration = self.duration_seconds
        if duration is not None and not (math.isfinite(duration) and duration > 0):
            raise UserError(f"{self.path}: expected a duration above 0 s, got {duration}")
        if not self.name:
            object.__setattr__(self, "name", str(self.path))

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole recording."""
        return self.start_seconds == 0 and self.duration_seconds is None


@dataclass(frozen=True)
class FoundClips:
    """What a source holds.

    Attributes:
        clips: In the order of names, or of the lines of a table.
        notes: Sentences that the reader of results should know, such as what was passed over.
    """

    clips: list[Clip]
    notes: list[str]
