"""Changing the sampling rate, of a whole waveform or of a stream, with the same result.

The kernel is that of ``torchaudio.functional.resample`` with its defaults: a sinc under a Hann window with
six zero crossings to either side, cut off at 0.99 of the slower rate's band (Smith, "Digital Audio Resampling
Home Page", 2002, section "Windowed Sinc Interpolation"). For each output phase only the taps under the window
are multiplied, so rates without a common divisor cost no more than others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole

_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
_BAND = 16
"""Output phases that share one matrix product; a wider band multiplies more zeros."""


class _Band(NamedTuple):
    """Neighbouring output phases: the first sample of the window that they read, and the kernel."""

    start: int
    kernel: Float[Tensor, "window phases"]


class Resampler:
    """Resamples a stream; what is carried from block to block is a few periods of samples.

    ``push`` returns what can be computed without the future, ``flush`` the rest. Laid end to end that is the
    result of `resample` for the whole stream, to the rounding of float32, whatever the blocks. Of n samples
    ``ceil(n * to_rate / from_rate)`` are made. Output m stands for the time of input ``m * from_rate /
    to_rate``: nothing is delayed.

    Args:
        from_rate: Samples a second of the input.
        to_rate: Samples a second of the output.

    Raises:
        UserError: If a rate is not a positive whole number.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        require_whole("from_rate", from_rate)
        require_whole("to_rate", to_rate)
        divisor = math.gcd(from_rate, to_rate)
        self.period = from_rate // divisor
        """Samples of the input after which the output's phases come round."""
        self.made = to_rate // divisor
        """Samples of the output that a period gives."""
        self.reach = math.ceil(_ZERO_CROSSINGS * self.period / (min(self.period, self.made) * _ROLLOFF))
        """Samples of the input to either side that an output depends on."""
        self._bands = () if self.period == self.made else _bands(self.period, self.made, self.reach)
        self._held: Tensor | None = None
        self._taken = self._given = 0

    def push(self, block: Float[Tensor, "*batch length channels"]) -> Float[Tensor, "*batch made channels"]:
        """Take the next samples of any number and return those that they complete.

        Args:
            block: Floating samples; shape but for the length, dtype and device as in the blocks before.
        """
        if not self._bands:
            return block
        if self._held is None:
            self._held = block.new_zeros((*block.shape[:-2], self.reach, block.shape[-1]))
            self._bands = tuple(_Band(start, kernel.to(block)) for start, kernel in self._bands)
        self._taken += block.shape[-2]
        self._held = torch.cat((self._held, block), dim=-2)
        return self._make((self._held.shape[-2] - 2 * self.reach) // self.period)

    def flush(self) -> Float[Tensor, "*batch made channels"]:
        """Return the last samples; the stream is over and another may begin.

        Raises:
            UserError: If nothing was pushed.
        """
        if not self._bands:
            return torch.zeros(0, 1)
        if self._held is None:
            raise UserError("resampling: expected samples, got none")
        length = -(-self._taken * self.made // self.period)
        left = length - self._given
        periods = -(-left // self.made)
        shape = list(self._held.shape)
        shape[-2] = periods * self.period + 2 * self.reach - shape[-2]
        self._held = torch.cat((self._held, self._held.new_zeros(shape)), dim=-2)
        made = self._make(periods)[..., :left, :]
        self._held, self._taken, self._given = None, 0, 0
        return made

    def _make(self, periods: int) -> Tensor:
        """Return the outputs of the next periods, and let go of their inputs."""
        assert self._held is not None
        periods = max(0, periods)
        x = self._held.mT  # (..., channels, length)
        bands = []
        for start, kernel in self._bands:
            length = len(kernel) + (periods - 1) * self.period
            if periods:
                windows = x[..., start : start + length].unfold(-1, len(kernel), self.period)
                bands.append(windows @ kernel)
        self._given += periods * self.made
        self._held = self._held[..., periods * self.period :, :].clone()  # a view would keep the block
        if not periods:
            return x.new_zeros((*x.shape[:-1], 0)).mT
        return torch.cat(bands, dim=-1).flatten(-2).mT


def resample(
    waveform: Float[Tensor, "*batch length channels"], from_rate: int, to_rate: int
) -> Float[Tensor, "*batch new_length channels"]:
    """Change the sampling rate, without what the slower rate cannot hold.

    Args:
        waveform: Floating samples.
        from_rate: Samples a second.
        to_rate: Samples a second of the result.

    Raises:
        UserError: If a rate is not a positive whole number.
    """
    if from_rate == to_rate or waveform.shape[-2] == 0:
        return waveform
    resampler = Resampler(from_rate, to_rate)
    first = resampler.push(waveform)
    return torch.cat((first, resampler.flush()), dim=-2)


def decimate(
    waveform: Float[Tensor, "*batch length channels"], from_rate: int, to_rate: int
) -> Float[Tensor, "*batch new_length channels"]:
    """Keep every n-th sample, without a filter: what the slower rate cannot hold folds back into it.

    Published zero-shot results at 8 kHz were measured so (Gu et al. 2022, arXiv:2111.00396, section 4.3);
    `resample` is how recordings of that rate really sound.

    Args:
        waveform: Floating samples.
        from_rate: Samples a second.
        to_rate: Samples a second of the result, a divisor of that.

    Raises:
        UserError: If it is no divisor.
    """
    require_whole("from_rate", from_rate)
    require_whole("to_rate", to_rate)
    if from_rate % to_rate:
        raise UserError(f"to_rate: decimation needs a divisor of {from_rate} Hz, got {to_rate}")
    return waveform[..., :: from_rate // to_rate, :]


def _bands(period: int, made: int, reach: int) -> tuple[_Band, ...]:
    """Return the kernel of each band of phases, as torchaudio's formula has it."""
    cutoff = min(period, made) * _ROLLOFF / period  # of the input's own band
    bands = []
    for first in range(0, made, _BAND):
        phases = torch.arange(first, min(made, first + _BAND), dtype=torch.float64)
        start = first * period // made  # in a period that begins `reach` samples before its own
        end = (first + len(phases) - 1) * period // made + 2 * reach + 1
        taps = torch.arange(start, end, dtype=torch.float64) - reach
        distance = (taps[:, None] - phases * period / made) * cutoff
        distance = distance.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
        window = torch.cos(distance * (math.pi / 2 / _ZERO_CROSSINGS)).square()
        bands.append(_Band(start, torch.sinc(distance) * window * cutoff))
    return tuple(bands)
