"""Changes to training batches on the device that trains: place and speed, loudness, colour, noise, gaps.

They draw from torch's global generator, which a run sets from its seed and the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio.crops import random_crops
from seqmamba.nn.options import is_number, require, require_bool, require_choice, require_whole

_COLOUR_POINTS = 6
_LOWEST_HZ = 50.0
_SILENCE = 1e-10


@dataclass(frozen=True)
class AugmentationConfig:
    """How recordings of a training batch are changed; the defaults change nothing.

    Args:
        share: Part of the recordings that are changed at all; `seconds` cuts all of them.
        seconds: Length that each recording is cut or filled up to, from a random place; None leaves it.
        shift_seconds: A stretch may begin up to this much before its recording, and end as much behind it;
            what is left open is silence.
        speed: A recording is played faster or slower by a factor up to this one, pitch and all.
        gain_db: It gets louder or quieter by up to this much.
        band_limit: Share of the recordings that lose everything above a random frequency, as a slower
            sampling rate would take it away.
        colour_db: A smooth random curve over frequency raises or lowers it by up to this much.
        noise_db: Lowest and highest ratio of a recording's power to that of added noise, in dB; None adds no
            noise.
        noise: ``white`` has the same power in every Hz, ``pink`` in every octave.
        gaps: Number of stretches that are silenced.
        gap_seconds: The longest of them.
        polarity: Whether half of the recordings change their sign.

    Raises:
        UserError: If a value is out of range.
    """

    share: float = 1.0
    seconds: float | None = None
    shift_seconds: float = 0.0
    speed: float = 1.0
    gain_db: float = 0.0
    colour_db: float = 0.0
    band_limit: float = 0.0
    noise_db: tuple[float, float] | None = None
    noise: Literal["white", "pink"] = "white"
    gaps: int = 0
    gap_seconds: float = 0.1
    polarity: bool = False

    def __post_init__(self) -> None:
        fits = self.seconds is None or (is_number(self.seconds) and self.seconds > 0)
        require(fits, "augmentation.seconds", "null or a number > 0", self.seconds)
        least = {"shift_seconds": 0, "speed": 1, "gain_db": 0, "colour_db": 0, "gap_seconds": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            fits = is_number(value) and value >= lowest
            require(fits, f"augmentation.{name}", f"a number >= {lowest}", value)
        for name in ("share", "band_limit"):
            value = getattr(self, name)
            fits = is_number(value) and 0 <= value <= 1
            require(fits, f"augmentation.{name}", "a number from 0 to 1", value)
        require_choice("augmentation.noise", self.noise, ("white", "pink"))
        if self.noise_db is not None:
            object.__setattr__(self, "noise_db", tuple(self.noise_db))  # YAML has lists
            numbers = len(self.noise_db) == 2 and all(map(is_number, self.noise_db))
            ordered = numbers and self.noise_db[0] <= self.noise_db[1]
            require(ordered, "augmentation.noise_db", "a lowest and a highest ratio in dB", self.noise_db)
        require_whole("augmentation.gaps", self.gaps, 0)
        require_bool("augmentation.polarity", self.polarity)

    @property
    def keeps_events(self) -> bool:
        """Whether what is heard in a frame is still heard there afterwards."""
        return self.seconds is None and not self.shift_seconds and self.speed == 1 and not self.gaps


def augment(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    rate: int,
    config: AugmentationConfig,
) -> tuple[Float[Tensor, "batch new_length channels"], Int[Tensor, " batch"]]:
    """Change each recording of a batch at random.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        rate: Sampling rate in Hz.
        config: What changes.

    Returns:
        The changed batch, zero behind the true lengths, and these.
    """
    count, device = len(waveform), waveform.device
    extent = torch.ones(count, 1, device=device)  # 0 for a recording that stays as it is
    if config.share < 1:
        extent = (torch.rand(count, 1, device=device) < config.share).float()
    if config.seconds is not None or config.shift_seconds or config.speed > 1:
        size = None if config.seconds is None else max(1, round(config.seconds * rate))
        speed = config.speed ** (extent * _spread(count, device))
        margin = extent * config.shift_seconds * rate
        waveform, lengths = random_crops(waveform, lengths, size, speed, margin)
    if config.colour_db:
        waveform = coloured(waveform, rate, extent * config.colour_db)
    if config.band_limit:
        waveform = band_limited(waveform, extent * config.band_limit)
    if config.gain_db:
        gain = extent * _spread(count, device) * config.gain_db
        waveform = waveform * 10 ** (gain[..., None] / 20)
    if config.polarity:
        flipped = extent * torch.randint(2, (count, 1), device=device)
        waveform = waveform * (1 - 2 * flipped[..., None])
    at = torch.arange(waveform.shape[1], device=device)
    silent = at >= lengths[:, None]
    if config.noise_db is not None:
        waveform = waveform.masked_fill(silent[..., None], 0)
        lowest, highest = config.noise_db
        ratio = lowest + torch.rand(count, 1, device=device) * (highest - lowest)
        noise = draw_noise(waveform[..., :1], config.noise).masked_fill(silent[..., None], 0)
        waveform = with_noise(waveform, noise, ratio, extent)
    for _ in range(config.gaps):
        width = extent * torch.rand(count, 1, device=device) * config.gap_seconds * rate
        start = torch.rand(count, 1, device=device) * lengths[:, None]
        silent = silent | ((at >= start) & (at < start + width))
    return waveform.masked_fill(silent[..., None], 0), lengths


def _spread(count: int, device: torch.device) -> Float[Tensor, "count 1"]:
    """Draw from -1 to 1."""
    return 2 * torch.rand(count, 1, device=device) - 1


def coloured(
    waveform: Float[Tensor, "batch length channels"], rate: int, most_db: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch length channels"]:
    """Raise and lower frequencies along a random curve, straight in dB between a few points on a log axis.

    As FilterAugment does to spectrograms (Nam et al. 2022, arXiv:2110.03282).

    Args:
        waveform: Samples.
        rate: Sampling rate in Hz.
        most_db: Largest rise or fall.
    """
    length, device = waveform.shape[1], waveform.device
    size = _power_of_two(length)
    points = (2 * torch.rand(len(waveform), 1, _COLOUR_POINTS, device=device) - 1) * most_db[..., None]
    frequencies = torch.fft.rfftfreq(size, 1 / rate, device=device).clamp(min=_LOWEST_HZ)
    at = torch.log(frequencies / _LOWEST_HZ) / math.log(max(rate / 2, 2 * _LOWEST_HZ) / _LOWEST_HZ)
    place = at.clamp(max=1) * (_COLOUR_POINTS - 1)
    below = place.floor().long().clamp(max=_COLOUR_POINTS - 2)
    curve = torch.lerp(points[..., below], points[..., below + 1], place - below)  # (batch, 1, bins)
    spectrum = torch.fft.rfft(waveform.mT.float(), n=size) * 10 ** (curve / 20)
    return torch.fft.irfft(spectrum, n=size)[..., :length].mT.to(waveform.dtype)


def band_limited(
    waveform: Float[Tensor, "batch length channels"], probability: Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch length channels"]:
    """Take from some recordings what lies above a random frequency, from an eighth to all of their band.

    Args:
        waveform: Samples.
        probability: Of each recording to be changed.
    """
    count, length, device = len(waveform), waveform.shape[1], waveform.device
    size = _power_of_two(length)
    highest = 2 ** (-3 * torch.rand(count, 1, device=device))
    highest = torch.where(torch.rand(count, 1, device=device) < probability, highest, 1.0)[..., None]
    spectrum = torch.fft.rfft(waveform.mT.float(), n=size)
    bins = spectrum.shape[-1]
    spectrum = spectrum.masked_fill(torch.arange(bins, device=device) >= highest * bins, 0)
    return torch.fft.irfft(spectrum, n=size)[..., :length].mT.to(waveform.dtype)


def draw_noise(
    like: Float[Tensor, "batch length 1"], kind: Literal["white", "pink"]
) -> Float[Tensor, "batch length 1"]:
    """Draw Gaussian noise.

    Args:
        like: Its shape and device.
        kind: ``white``, or ``pink``: power falls as one over the frequency.
    """
    white = torch.randn_like(like)
    length = like.shape[1]
    if kind == "white" or length < 2:
        return white
    size = _power_of_two(length)
    spectrum = torch.fft.rfft(white, n=size, dim=1)
    weight = torch.arange(spectrum.shape[1], device=like.device).clamp(min=1).rsqrt()[:, None]
    return torch.fft.irfft(spectrum * weight, n=size, dim=1)[:, :length]


def with_noise(
    waveform: Float[Tensor, "batch length channels"],
    noise: Float[Tensor, "batch length 1"],
    ratio_db: Float[Tensor, "batch 1"],
    extent: Float[Tensor, "batch 1"],
) -> Float[Tensor, "batch length channels"]:
    """Add noise so that a recording has a power ratio to it: 10 log10 (power / power of the noise).

    Args:
        waveform: Samples, zero behind the true lengths; silence stays silence.
        noise: As long; it goes into all channels.
        ratio_db: The ratios.
        extent: Factor of the noise.
    """
    power, of_noise = (x.square().mean(dim=2).sum(dim=1, keepdim=True) for x in (waveform, noise))
    scale = extent * torch.sqrt(power / of_noise.clamp(min=_SILENCE)) * 10 ** (-ratio_db / 20)
    return waveform + scale[..., None] * noise


def _power_of_two(length: int) -> int:
    """Return a length that is fast to transform."""
    return int(2 ** math.ceil(math.log2(max(2, length))))
