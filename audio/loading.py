"""Recordings as a model wants them: its sampling rate, its channels, the stretch that is asked for."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from audio.files import AudioInfo, describe, read
from audio.resampling import resample
from seqmamba.errors import UserError


def load(
    source: str | Path | AudioInfo,
    rate: int,
    channels: int,
    *,
    start: float = 0.0,
    seconds: float | None = None,
) -> Float[Tensor, "length channels"]:
    """Read a stretch of a recording and bring it to a sampling rate and a number of channels.

    Args:
        source: The file, or what `describe` said of it.
        rate: Sampling rate in Hz.
        channels: 1 averages the channels of the file; a file with one is repeated.
        start: Where the stretch begins, in seconds.
        seconds: Its length, at most up to the end; all of the rest when None.

    Raises:
        UserError: If the file cannot be read, the stretch is not in it, or the channels do not fit.
    """
    info = source if isinstance(source, AudioInfo) else describe(source)
    first = round(start * info.rate)
    if not 0 <= first < info.frames:
        raise UserError(f"{info.path}: start {start:g} s is not within its {info.seconds:g} s")
    count = info.frames - first
    if seconds is not None:
        count = max(1, min(count, round(seconds * info.rate)))
    waveform = with_channels(read(info.path, start=first, frames=count), channels, info.path)
    return waveform if info.rate == rate else resample(waveform, info.rate, rate)


def with_channels(
    waveform: Float[Tensor, "length channels"], channels: int, path: str | Path
) -> Float[Tensor, "length new_channels"]:
    """Average the channels of a recording into one, repeat its only one, or leave them.

    Args:
        waveform: Samples.
        channels: How many are wanted.
        path: The file, for the message.

    Raises:
        UserError: If there are others, and several are wanted.
    """
    have = waveform.shape[1]
    if have == channels:
        return waveform
    if channels == 1:
        return waveform.mean(dim=1, keepdim=True)
    if have == 1:
        return waveform.expand(-1, channels)
    raise UserError(f"{path}: has {have} channels, the model takes {channels}")
