"""Which clips of a set can be read, and what is said of those that cannot."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audio.files import AudioInfo, describe
from audio.inventory import overrun, take_inventory
from audio.manifests import Clip
from seqmamba.errors import UserError

Damaged = Literal["stop", "leave_out"]
_MOST_MISSING = 0.5  # share of the recordings, beyond which something else is wrong


@dataclass(frozen=True)
class ReadableClips:
    """Clips, what their files hold, and what was left out.

    Attributes:
        clips: In the order of the source.
        infos: What the file of each holds.
        reasons: A sentence for each file or clip that was left out.
    """

    clips: list[Clip]
    infos: list[AudioInfo]
    reasons: list[str]

    @property
    def rates(self) -> Counter[int]:
        """How many clips have each sampling rate."""
        return Counter(info.rate for info in self.infos)


def describe_clips(clips: Sequence[Clip], damaged: Damaged) -> ReadableClips:
    """Read the headers of a set; with ``leave_out`` decode every file once, to find damage in the middle.

    Nothing is replaced by something else: what cannot be read is named on stderr and is missing.

    Args:
        clips: The set.
        damaged: ``stop`` raises at the first that cannot be read, ``leave_out`` goes on without.

    Raises:
        UserError: If a clip cannot be read and that is to stop, or most cannot be read.
    """
    infos: dict[Path, AudioInfo] = {}
    problems: dict[Path, str] = {}
    if damaged == "leave_out":
        for file in take_inventory(clips).files:
            if file.problem is not None or file.info is None:
                problems[file.path] = str(file.problem)
            else:
                infos[file.path] = file.info
    else:
        infos = {path: describe(path) for path in dict.fromkeys(clip.path for clip in clips)}
    kept: list[Clip] = []
    reasons = list(problems.values())
    for clip in clips:
        problem = overrun(clip, infos[clip.path]) if clip.path in infos else None
        if problem is not None and damaged == "stop":
            raise UserError(problem)
        if problem is not None:
            reasons.append(problem)
        elif clip.path in infos:
            kept.append(clip)
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)
    missing = len(clips) - len(kept)
    if missing > _MOST_MISSING * len(clips) or not kept:
        raise UserError(f"{missing:,} of {len(clips):,} recordings cannot be read; {reasons[0]}")
    return ReadableClips(kept, [infos[clip.path] for clip in kept], reasons)


def clip_name(clip: Clip) -> str:
    """Return a name that no other clip has: the path, and the stretch where it is one.

    Args:
        clip: The clip.
    """
    if clip.whole:
        return str(clip.path)
    end = "" if clip.duration_seconds is None else f"{clip.start_seconds + clip.duration_seconds:g}"
    return f"{clip.path}:{clip.start_seconds:g}-{end}"
