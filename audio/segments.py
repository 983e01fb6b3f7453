"""Stretches of recordings: where they begin, and reading them without the rest, at any sampling rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from audio.files import AudioInfo, read
from audio.inventory import overrun, seconds_of
from audio.manifests import Clip
from audio.resampling import Resampler
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require


@dataclass(frozen=True)
class Place:
    """A clip in samples of the rate that a model takes.

    Attributes:
        info: What its file holds.
        start: Its first sample.
        frames: Number of its samples.
    """

    info: AudioInfo
    start: int
    frames: int


def place_of(clip: Clip, info: AudioInfo, rate: int) -> Place:
    """Return where a clip lies.

    Args:
        clip: The clip.
        info: What its file holds.
        rate: Samples a second to count in.

    Raises:
        UserError: If the clip reaches past the end of its file.
    """
    problem = overrun(clip, info)
    if problem is not None:
        raise UserError(problem)
    total = -(-info.frames * rate // info.rate)
    start = min(round(clip.start_seconds * rate), total - 1)
    left = total - start
    if clip.duration_seconds is None:
        return Place(info, start, left)
    return Place(info, start, max(1, min(left, round(clip.duration_seconds * rate))))


def read_segment(
    info: AudioInfo, rate: int, start: int = 0, frames: int | None = None
) -> Float[Tensor, "length channels"]:
    """Read a stretch of a recording at another rate: what resampling the whole file would have there.

    Only the stretch and what the filter reaches around it is decoded.

    Args:
        info: The file.
        rate: Samples a second of the result.
        start: First sample of the stretch, counted at that rate.
        frames: Number of its samples; up to the end when None.

    Raises:
        UserError: If the file cannot be read, or the stretch reaches past its end.
    """
    if rate == info.rate:
        return read(info.path, start=start, frames=frames)
    resampler = Resampler(info.rate, rate)
    period, made, reach = resampler.period, resampler.made, resampler.reach
    total = -(-info.frames * made // period)
    frames = total - start if frames is None else frames
    if start < 0 or frames < 1 or start + frames > total:
        raise UserError(
            f"{info.path}: samples {start:,} to {start + frames:,} at {rate} Hz are not within its {total:,}"
        )
    # From the start of a period, so that the phases of the filter are those of the whole.
    skipped = max(0, start // made - math.ceil(reach / period))
    first = skipped * period
    last = min(info.frames, math.ceil((start + frames) * period / made) + reach)
    waveform = read(info.path, start=first, frames=last - first)
    made_before = start - skipped * made
    resampled = torch.cat((resampler.push(waveform), resampler.flush()))
    return resampled[made_before : made_before + frames]


def cut_clips(
    clips: Sequence[Clip], infos: Sequence[AudioInfo], seconds: float, hop: float | None = None
) -> list[Clip]:
    """Cut clips into stretches of equal length that cover them; shorter clips stay whole.

    The last stretch ends with the clip: it begins earlier than its turn where the clip is no multiple.
    Stretches of a file have its group, so that a split keeps them together.

    Args:
        clips: What to cut.
        infos: What the file of each holds.
        seconds: Length of a stretch.
        hop: From the start of one to that of the next; None lets them touch.

    Raises:
        UserError: If a length is not positive.
    """
    hop = seconds if hop is None else hop
    for name, value in (("seconds", seconds), ("hop", hop)):
        require(is_number(value) and value > 0, name, "a number > 0", value)
    cut: list[Clip] = []
    for clip, info in zip(clips, infos, strict=True):
        length = seconds_of(clip, info)
        if length <= seconds:
            cut.append(clip)
            continue
        group = clip.group or str(clip.path)
        count = math.ceil((length - seconds) / hop - 1e-9) + 1
        starts = [min(number * hop, length - seconds) for number in range(count)]
        cut += [
            replace(clip, start_seconds=clip.start_seconds + start, duration_seconds=seconds, group=group)
            for start in starts
        ]
    return cut
