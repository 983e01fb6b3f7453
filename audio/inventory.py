"""What a set of recordings holds, before anything is trained on it, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audio.files import AudioInfo
from audio.manifests import Clip
from audio.measurements import Measurements, measure
from seqmamba.errors import UserError
from seqmamba.progress import Progress

_MOST_THREADS = 8
_CLIPPED = 1e-4
_MOSTLY_SILENT = 0.95
_OFF_ZERO = 0.01


@dataclass(frozen=True)
class Copies:
    """Files that hold the same samples.

    Attributes:
        paths: The files.
        parts: The parts of the split that they are in, if there are several: a leak.
        labels: Their labels, if they have several: at most one can be right.
    """

    paths: tuple[Path, ...]
    parts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """What a set of recordings holds.

    Attributes:
        clips: The clips, in their order.
        files: Each file once, in the order of the clips.
        copies: Files with the same samples.
        outside: Clips that reach past the end of their file, each with a sentence.
    """

    clips: list[Clip]
    files: list[Measurements]
    copies: list[Copies] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    @property
    def readable(self) -> list[Measurements]:
        """Files that can be read."""
        return [file for file in self.files if file.problem is None]

    @property
    def unreadable(self) -> list[Measurements]:
        """Files that cannot, each with its reason."""
        return [file for file in self.files if file.problem is not None]

    @property
    def silent(self) -> list[Measurements]:
        """Files in which almost nothing is louder than -60 dB."""
        return [file for file in self.readable if file.silent >= _MOSTLY_SILENT]

    @property
    def clipped(self) -> list[Measurements]:
        """Files with more than one sample in 10,000 cut off at full scale."""
        return [file for file in self.readable if file.clipped > _CLIPPED]

    @property
    def off_zero(self) -> list[Measurements]:
        """Files whose mean is more than 0.01 from zero."""
        return [file for file in self.readable if abs(file.offset) > _OFF_ZERO]

    @property
    def misnamed(self) -> list[Measurements]:
        """Files whose names end as those of another format."""
        return [file for file in self.readable if file.info is not None and file.info.misnamed]

    @property
    def seconds(self) -> np.ndarray:
        """Duration of each clip of a readable file, float64."""
        infos = {file.path: file.info for file in self.readable}
        clips = [(clip, infos[clip.path]) for clip in self.clips if clip.path in infos]
        return np.array([seconds_of(clip, info) for clip, info in clips if info is not None])


def take_inventory(
    clips: Sequence[Clip], *, stop: bool = False, threads: int | None = None, progress: bool = True
) -> Inventory:
    """Decode every file of a set once and say what it holds.

    Args:
        clips: The set.
        stop: Whether to stop at the first file that cannot be read, rather than name it and go on.
        threads: Files to decode at a time; None takes as many as there are processors, at most eight.
        progress: Whether to show how far it is, on stderr.

    Raises:
        UserError: If there are no clips, or `stop` is set and a file cannot be read.
    """
    if not clips:
        raise UserError("inventory: expected recordings, got none")
    paths = list(dict.fromkeys(clip.path for clip in clips))
    workers = threads or min(_MOST_THREADS, os.cpu_count() or 1)
    counter = Progress(len(paths), unit="files") if progress else None
    measured: dict[Path, Measurements] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        for done in as_completed([pool.submit(measure, path) for path in paths]):
            file = done.result()
            if stop and file.problem is not None:
                raise UserError(file.problem)
            measured[file.path] = file
            if counter is not None:
                counter.advance(1)
    finally:
        # An interruption waits for the files that are being decoded, not for all of them.
        pool.shutdown(cancel_futures=True)
    if counter is not None:
        counter.finish()
    files = [measured[path] for path in paths]
    return Inventory(list(clips), files, _copies(clips, files), _outside(clips, measured))


def seconds_of(clip: Clip, info: AudioInfo) -> float:
    """Return the duration of a clip, up to the end of its file at most.

    Args:
        clip: The clip.
        info: What its file holds.
    """
    left = max(0.0, info.seconds - clip.start_seconds)
    return left if clip.duration_seconds is None else min(left, clip.duration_seconds)


def overrun(clip: Clip, info: AudioInfo) -> str | None:
    """Return what is wrong where a clip reaches past the end of its file; None where it does not.

    A hundredth of a second more is no error: tables round.

    Args:
        clip: The clip.
        info: What its file holds.
    """
    if clip.start_seconds >= info.seconds:
        return f"{clip.source or clip.path}: begins at {clip.start_seconds:g} s, but {_ends(info)}"
    end = clip.start_seconds + (clip.duration_seconds or 0.0)
    if end > info.seconds + 0.01:
        return f"{clip.source or clip.path}: ends at {end:g} s, but {_ends(info)}"
    return None


def _ends(info: AudioInfo) -> str:
    return f"{info.path.name} ends at {info.seconds:g} s; times are in seconds"


def _outside(clips: Sequence[Clip], measured: dict[Path, Measurements]) -> list[str]:
    infos = [(clip, measured[clip.path].info) for clip in clips]
    found = [overrun(clip, info) for clip, info in infos if info is not None]
    return [sentence for sentence in found if sentence is not None]


def _copies(clips: Sequence[Clip], files: Sequence[Measurements]) -> list[Copies]:
    """Gather files by their fingerprint."""
    clips_of: dict[Path, list[Clip]] = {}
    for clip in clips:
        clips_of.setdefault(clip.path, []).append(clip)
    groups: dict[str, list[Path]] = {}
    for file in files:
        if file.problem is None:
            groups.setdefault(file.digest, []).append(file.path)
    copies = []
    for paths in groups.values():
        if len(paths) > 1:
            members = [clip for path in paths for clip in clips_of[path] if clip.whole]
            parts = {clip.split or clip.fold for clip in members} - {None}
            labels = {" ".join(clip.labels) for clip in members}
            copies.append(Copies(tuple(paths), _several(parts), _several(labels)))
    return copies


def _several(values: set[str | None] | set[str]) -> tuple[str, ...]:
    """Return sorted values where there is more than one."""
    return tuple(sorted(map(str, values))) if len(values) > 1 else ()


def count(values: Sequence[object]) -> dict[str, int]:
    """Count values, the most frequent first."""
    return {str(value): number for value, number in Counter(values).most_common()}
