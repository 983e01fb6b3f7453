"""Recordings that hold the same samples, found without decoding those that cannot."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Int

from audio.files import AudioInfo
from audio.inventory import seconds_of
from audio.manifests import Clip
from audio.measurements import digest_of

_LOOK = 4_096
"""Samples at the start and in the middle that have to agree before all are compared."""


def copy_groups(clips: Sequence[Clip], infos: Sequence[AudioInfo]) -> Int[np.ndarray, " n"]:
    """Number clips so that those with the same samples have the same number.

    Only clips of the same rate, channels and length can be copies. Of those some stretches are compared
    first; whole clips are decoded where these agree.

    Args:
        clips: The clips.
        infos: What the file of each holds.

    Returns:
        Numbers from 0 without gaps, in the order of first appearance.

    Raises:
        UserError: If a clip has to be decoded and cannot be read.
    """
    places = [_place(clip, info) for clip, info in zip(clips, infos, strict=True)]
    keys: list[Hashable] = [
        (info.rate, info.channels, frames) for info, (_, frames) in zip(infos, places, strict=True)
    ]
    for look in (_first, _middle, _all):
        shared = _shared(keys)
        for row in np.flatnonzero(shared).tolist():
            start, frames = look(*places[row])
            keys[row] = (keys[row], digest_of(infos[row], start=start, frames=frames))
        # A clip that differs from all others already is looked at no further.
        keys = [
            key if again else (key, row) for row, (key, again) in enumerate(zip(keys, shared, strict=True))
        ]
    return _numbered(keys)


def _place(clip: Clip, info: AudioInfo) -> tuple[int, int]:
    """Return the first sample of a clip and the number of its samples."""
    start = min(round(clip.start_seconds * info.rate), info.frames - 1)
    return start, max(1, min(round(seconds_of(clip, info) * info.rate), info.frames - start))


def _first(start: int, frames: int) -> tuple[int, int]:
    return start, min(frames, _LOOK)


def _middle(start: int, frames: int) -> tuple[int, int]:
    return start + frames // 2, min(frames - frames // 2, _LOOK)


def _all(start: int, frames: int) -> tuple[int, int]:
    return start, frames


def _shared(keys: Sequence[Hashable]) -> np.ndarray:
    """Tell which keys others have, too."""
    numbers = _numbered(keys)
    return np.bincount(numbers)[numbers] > 1


def _numbered(keys: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)
