"""What a recording sounds like in numbers: level, clipping, silence, and a fingerprint of its samples."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audio.files import AudioInfo, blocks, describe
from seqmamba.errors import UserError

SILENCE_DB = -60.0
"""Level in dB of full scale below which a hundredth of a second counts as silent."""

_WINDOWS_PER_SECOND = 100
_BLOCK_WINDOWS = 1_000
_FULL_SCALE = 0.999
_SHORTEST_RUN = 3
_LOWEST_DB = -200.0


@dataclass(frozen=True)
class Measurements:
    """What is known of a file once all of it was decoded.

    Attributes:
        path: The file.
        info: What its header says; None if that cannot be read.
        problem: Why it cannot be read, in a sentence; None if it can. The numbers below are then those of
            nothing.
        peak: Largest absolute sample.
        rms_db: Level in dB of full scale.
        offset: Mean of the samples: the recording's zero.
        clipped: Share of the samples in runs of three or more at full scale.
        silent: Share of the time that is quieter than `SILENCE_DB`.
        digest: Fingerprint of rate, channels and samples at 16 bits: equal for lossless copies in any format.
    """

    path: Path
    info: AudioInfo | None
    problem: str | None = None
    peak: float = 0.0
    rms_db: float = _LOWEST_DB
    offset: float = 0.0
    clipped: float = 0.0
    silent: float = 0.0
    digest: str = ""


def measure(path: Path) -> Measurements:
    """Decode a recording block by block and measure it; a file that cannot be read is no error.

    Args:
        path: The file.
    """
    info = None
    try:
        info = describe(path)
        return _measure(info)
    except UserError as error:
        return Measurements(path, info, error.message)


def digest_of(info: AudioInfo, *, start: int = 0, frames: int | None = None) -> str:
    """Return the fingerprint of a stretch of a recording; see `Measurements`.

    Args:
        info: The recording.
        start: First sample.
        frames: How many; up to the end when None.

    Raises:
        UserError: If it cannot be read.
    """
    digest = _Digest(info)
    for block in blocks(info.path, _block_size(info.rate), start=start, frames=frames):
        digest.update(block)
    return digest.value


class _Digest:
    def __init__(self, info: AudioInfo) -> None:
        self._hash = hashlib.blake2b(f"{info.rate} {info.channels}".encode(), digest_size=16)

    def update(self, block: Float[Tensor, "length channels"]) -> None:
        steps = (block * 2**15).round_().clamp_(-(2**15), 2**15 - 1).to(torch.int16)
        self._hash.update(steps.contiguous().numpy().tobytes())

    @property
    def value(self) -> str:
        return self._hash.hexdigest()


class _Runs:
    """Counts the samples in runs at full scale, across blocks."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._flags = torch.zeros(_SHORTEST_RUN, channels, dtype=torch.bool)

    def update(self, block: Float[Tensor, "length channels"]) -> None:
        flags = torch.cat((self._flags, block.abs() >= _FULL_SCALE))
        full = flags.unfold(0, _SHORTEST_RUN, 1).all(dim=-1)
        # A run of n samples has n - 2 windows of three that are full; its first one stands for three.
        begun = full[1:] & ~full[:-1]
        self.count += int(full[1:].sum()) + (_SHORTEST_RUN - 1) * int(begun.sum())
        self._flags = flags[-_SHORTEST_RUN:]


def _measure(info: AudioInfo) -> Measurements:
    window = max(1, info.rate // _WINDOWS_PER_SECOND)
    digest, runs = _Digest(info), _Runs(info.channels)
    peak, total, energy, silent = 0.0, 0.0, 0.0, 0
    for block in blocks(info.path, _block_size(info.rate)):
        digest.update(block)
        runs.update(block)
        peak = max(peak, float(block.abs().max()))
        total += float(block.sum(dtype=torch.float64))
        power = block.square().mean(dim=1)
        energy += float(power.sum(dtype=torch.float64))
        silent += _silent_frames(power, window)
    samples = info.frames * info.channels
    return Measurements(
        info.path,
        info,
        peak=peak,
        rms_db=max(_LOWEST_DB, 10 * math.log10(energy / info.frames)) if energy else _LOWEST_DB,
        offset=total / samples,
        clipped=runs.count / samples,
        silent=silent / info.frames,
        digest=digest.value,
    )


def _silent_frames(power: Float[Tensor, " length"], window: int) -> int:
    """Count the frames in windows that are silent; the last window may be shorter."""
    threshold = 10 ** (SILENCE_DB / 10)
    whole = len(power) // window * window
    quiet = power[:whole].view(-1, window).mean(dim=1) < threshold
    count = int(quiet.sum()) * window
    rest = power[whole:]
    return count + (len(rest) if len(rest) and float(rest.mean()) < threshold else 0)


def _block_size(rate: int) -> int:
    """Return a block of whole windows, about ten seconds."""
    return max(1, rate // _WINDOWS_PER_SECOND) * _BLOCK_WINDOWS
