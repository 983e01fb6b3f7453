"""Changes to single recordings as they are read: another place, a shift, noise at a ratio, other speeds.

What is drawn depends on the seed, the epoch and the recording alone: not on the batch, the number of workers
or the order. Loudness, colour, gaps and mixing are cheaper for whole batches on the device that trains, see
`audio.batch_augmentation` and `audio.mixing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audio.resampling import resample
from seqmamba.nn.options import is_number, require, require_choice

_SPEED_STEPS = 100
"""Speeds are hundredths, so that few filters are computed."""

_SILENCE = 1e-10


@dataclass(frozen=True)
class AugmentationConfig:
    """How recordings are changed while they are read; the defaults change nothing.

    Args:
        share: Part of the recordings that are changed at all.
        speed: Factors from one over this to this change speed and pitch, without aliasing.
        shift_seconds: A recording begins up to this much earlier or later; what is left open is silence.
        noise: ``white`` has the same power in every Hz, ``pink`` in every octave.
        noise_db: Lowest and highest ratio of the recording's power to that of the noise, in dB; None adds no
            noise.

    Raises:
        UserError: If a value is out of range.
    """

    share: float = 1.0
    speed: float = 1.0
    shift_seconds: float = 0.0
    noise: Literal["white", "pink"] = "white"
    noise_db: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require(is_number(self.share) and 0 <= self.share <= 1, "share", "a number from 0 to 1", self.share)
        fits = is_number(self.speed) and 1 <= self.speed <= 2
        require(fits, "speed", "a number from 1 to 2", self.speed)
        fits = is_number(self.shift_seconds) and self.shift_seconds >= 0
        require(fits, "shift_seconds", "a number >= 0", self.shift_seconds)
        require_choice("noise", self.noise, ("white", "pink"))
        if self.noise_db is not None:
            object.__setattr__(self, "noise_db", tuple(self.noise_db))  # YAML has lists
            numbers = len(self.noise_db) == 2 and all(map(is_number, self.noise_db))
            ordered = numbers and self.noise_db[0] <= self.noise_db[1]
            require(ordered, "noise_db", "a lowest and a highest ratio in dB", self.noise_db)

    @property
    def changes_nothing(self) -> bool:
        """Whether recordings stay as they are."""
        return not self.share or (self.speed == 1 and not self.shift_seconds and self.noise_db is None)


def generator_of(seed: int, epoch: int, item: int) -> np.random.Generator:
    """Return the source of random numbers of one recording in one epoch.

    Args:
        seed: Of the run.
        epoch: Counted from 0.
        item: Position of the recording in the data set.
    """
    return np.random.default_rng((seed, epoch, item))


def augment(
    waveform: Float[Tensor, "length channels"],
    rate: int,
    config: AugmentationConfig,
    generator: np.random.Generator,
) -> Float[Tensor, "new_length channels"]:
    """Change one recording.

    Args:
        waveform: Samples.
        rate: Samples a second.
        config: What changes.
        generator: Draws; see `generator_of`.

    Returns:
        A new recording; only `speed` changes its length.
    """
    if config.changes_nothing or generator.random() >= config.share:
        return waveform
    if config.speed > 1:
        waveform = change_speed(waveform, config.speed ** generator.uniform(-1, 1))
    if config.shift_seconds:
        most = round(config.shift_seconds * rate)
        waveform = shift(waveform, int(generator.integers(-most, most + 1)))
    if config.noise_db is not None:
        noise = draw_noise(len(waveform), config.noise, generator)
        waveform = add_noise(waveform, noise, generator.uniform(*config.noise_db))
    return waveform


def change_speed(
    waveform: Float[Tensor, "length channels"], factor: float
) -> Float[Tensor, "new_length channels"]:
    """Play a recording faster or slower, pitch and all; what would alias is filtered out.

    Args:
        waveform: Samples.
        factor: Above one is faster; rounded to hundredths.
    """
    return resample(waveform, max(1, round(factor * _SPEED_STEPS)), _SPEED_STEPS)


def shift(waveform: Float[Tensor, "length channels"], samples: int) -> Float[Tensor, "length channels"]:
    """Let a recording begin later; what goes past the end is lost, the start is silence.

    Args:
        waveform: Samples.
        samples: How much later; earlier if negative.
    """
    samples = max(-len(waveform), min(len(waveform), samples))
    shifted = torch.zeros_like(waveform)
    if samples >= 0:
        shifted[samples:] = waveform[: len(waveform) - samples]
    else:
        shifted[:samples] = waveform[-samples:]
    return shifted


def draw_noise(
    length: int, kind: Literal["white", "pink"], generator: np.random.Generator
) -> Float[Tensor, "length 1"]:
    """Draw Gaussian noise of one channel, of power one on average.

    Args:
        length: Samples.
        kind: ``white``, or ``pink``: power falls as one over the frequency.
        generator: Draws.
    """
    white = torch.from_numpy(generator.standard_normal((length, 1), dtype=np.float32))
    if kind == "white" or length < 2:
        return white
    spectrum = torch.fft.rfft(white, dim=0)
    weight = torch.arange(len(spectrum), dtype=torch.float32).clamp(min=1).rsqrt_()[:, None]
    pink = torch.fft.irfft(spectrum * weight, n=length, dim=0)
    return pink / pink.square().mean().sqrt().clamp(min=_SILENCE)


def add_noise(
    waveform: Float[Tensor, "length channels"], noise: Float[Tensor, "length channels_or_1"], ratio_db: float
) -> Float[Tensor, "length channels"]:
    """Add noise so that the recording has a power ratio to it: 10 log10 (power / power of the noise).

    Args:
        waveform: Samples; silence stays silence.
        noise: As long; one channel goes into all.
        ratio_db: The ratio in dB.
    """
    power, noise_power = waveform.square().mean(), noise.square().mean()
    scale = torch.sqrt(power / noise_power.clamp(min=_SILENCE)) * 10 ** (-ratio_db / 20)
    return waveform + scale * noise
