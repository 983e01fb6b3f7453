"""Changes to whole training batches on the device that trains: speed and place, loudness, colour, gaps.

They draw from torch's global generator, which a run sets from its seed and the epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from seqmamba.nn.options import is_number, require, require_bool

_COLOUR_POINTS = 6
_LOWEST_HZ = 50.0


@dataclass(frozen=True)
class BatchAugmentationConfig:
    """How recordings of a training batch are changed; the defaults change nothing.

    Args:
        seconds: Length that each recording is cut or filled up to, from a random place; None leaves it.
        margin: Silence in front of and behind a recording from which a cut may begin, as a share of
            `seconds`.
        speed: A recording is played faster or slower by a factor up to this one, pitch and all.
        gain_db: It gets louder or quieter by up to this much.
        band_limit: Share of the recordings that lose everything above a random frequency, as a slower
            sampling rate would take it away.
        colour_db: A smooth random curve over frequency raises or lowers it by up to this much.
        gaps: Number of stretches that are silenced.
        gap_seconds: The longest of them.
        polarity: Whether half of the recordings change their sign.

    Raises:
        UserError: If a value is out of range.
    """

    seconds: float | None = None
    margin: float = 0.0
    speed: float = 1.0
    gain_db: float = 0.0
    colour_db: float = 0.0
    band_limit: float = 0.0
    gaps: int = 0
    gap_seconds: float = 0.1
    polarity: bool = False

    def __post_init__(self) -> None:
        seconds = self.seconds
        fits = seconds is None or (is_number(seconds) and seconds > 0)
        require(fits, "augmentation.seconds", "null or a number > 0", seconds)
        for name, least in (
            ("margin", 0),
            ("speed", 1),
            ("gain_db", 0),
            ("colour_db", 0),
            ("gap_seconds", 0),
        ):
            value = getattr(self, name)
            fits = is_number(value) and value >= least
            require(fits, f"augmentation.{name}", f"a number >= {least}", value)
        fits = is_number(self.band_limit) and 0 <= self.band_limit <= 1
        require(fits, "augmentation.band_limit", "a number from 0 to 1", self.band_limit)
        fits = isinstance(self.gaps, int) and not isinstance(self.gaps, bool) and self.gaps >= 0
        require(fits, "augmentation.gaps", "a whole number >= 0", self.gaps)
        require_bool("augmentation.polarity", self.polarity)


def augment_batch(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    rate: int,
    config: BatchAugmentationConfig,
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
    if config.seconds is not None or config.speed > 1:
        waveform, lengths = cut_at_random(waveform, lengths, rate, config)
    size = (len(waveform), 1, 1)
    device = waveform.device
    if config.colour_db:
        waveform = coloured(waveform, rate, config.colour_db)
    if config.band_limit:
        waveform = band_limited(waveform, config.band_limit)
    if config.gain_db:
        waveform = waveform * 10 ** ((2 * torch.rand(size, device=device) - 1) * config.gain_db / 20)
    if config.polarity:
        waveform = waveform * (1 - 2.0 * torch.randint(2, size, device=device))
    length = waveform.shape[1]
    at = torch.arange(length, device=device)
    silent = at >= lengths[:, None]
    for _ in range(config.gaps):
        width = torch.rand(len(waveform), 1, device=device) * config.gap_seconds * rate
        start = torch.rand(len(waveform), 1, device=device) * lengths[:, None]
        silent = silent | ((at >= start) & (at < start + width))
    return waveform.masked_fill(silent[..., None], 0), lengths


def cut_at_random(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    rate: int,
    config: BatchAugmentationConfig,
) -> tuple[Float[Tensor, "batch new_length channels"], Int[Tensor, " batch"]]:
    """Cut a stretch out of each recording, at a random place and speed, by linear interpolation.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        rate: Sampling rate in Hz.
        config: ``seconds``, ``margin`` and ``speed`` are read.

    Returns:
        Stretches of ``seconds``, silence where they reach past a recording; without ``seconds``, whole
        recordings that got shorter or longer.
    """
    count, device = len(waveform), waveform.device
    speed = config.speed ** (2 * torch.rand(count, 1, device=device) - 1)
    if config.seconds is None:
        start = torch.zeros_like(speed)
        new = (lengths / speed[:, 0]).floor().long().clamp(min=1)
        size = int(new.max())
    else:
        size = max(1, round(config.seconds * rate))
        new = torch.full((count,), size, device=device)
        margin = config.margin * size
        room = lengths[:, None] - speed * size  # what does not fit goes to the margins
        low, high = room.clamp(max=0) - margin, room.clamp(min=0) + margin
        start = low + torch.rand(count, 1, device=device) * (high - low)
    place = start + speed * torch.arange(size, device=device)
    below = place.floor()
    share = (place - below)[..., None].to(waveform.dtype)
    first = _at(waveform, below.long(), lengths)
    return torch.lerp(first, _at(waveform, below.long() + 1, lengths), share), new


def coloured(
    waveform: Float[Tensor, "batch length channels"], rate: int, most_db: float
) -> Float[Tensor, "batch length channels"]:
    """Raise and lower frequencies along a random curve, straight in dB between a few points on a log axis.

    As FilterAugment does to spectrograms (Nam et al. 2022, arXiv:2110.03282).

    Args:
        waveform: Samples.
        rate: Sampling rate in Hz.
        most_db: Largest rise or fall.
    """
    length, device = waveform.shape[1], waveform.device
    size = 2 ** math.ceil(math.log2(max(2, length)))
    points = (2 * torch.rand(len(waveform), 1, _COLOUR_POINTS, device=device) - 1) * most_db
    frequencies = torch.fft.rfftfreq(size, 1 / rate, device=device).clamp(min=_LOWEST_HZ)
    at = torch.log(frequencies / _LOWEST_HZ) / math.log(max(rate / 2, 2 * _LOWEST_HZ) / _LOWEST_HZ)
    place = at.clamp(max=1) * (_COLOUR_POINTS - 1)
    below = place.floor().long().clamp(max=_COLOUR_POINTS - 2)
    curve = torch.lerp(points[..., below], points[..., below + 1], place - below)  # (batch, 1, bins)
    spectrum = torch.fft.rfft(waveform.mT.float(), n=size) * 10 ** (curve / 20)
    return torch.fft.irfft(spectrum, n=size)[..., :length].mT.to(waveform.dtype)


def band_limited(
    waveform: Float[Tensor, "batch length channels"], share: float
) -> Float[Tensor, "batch length channels"]:
    """Take from some recordings what lies above a random frequency, from an eighth to all of their band.

    Args:
        waveform: Samples.
        share: Of the recordings that are changed.
    """
    count, length, device = len(waveform), waveform.shape[1], waveform.device
    size = 2 ** math.ceil(math.log2(max(2, length)))
    highest = 2 ** (-3 * torch.rand(count, 1, 1, device=device))
    highest = torch.where(torch.rand(count, 1, 1, device=device) < share, highest, 1.0)
    spectrum = torch.fft.rfft(waveform.mT.float(), n=size)
    bins = spectrum.shape[-1]
    spectrum = spectrum.masked_fill(torch.arange(bins, device=device) >= highest * bins, 0)
    return torch.fft.irfft(spectrum, n=size)[..., :length].mT.to(waveform.dtype)


def _at(waveform: Tensor, place: Tensor, lengths: Tensor) -> Tensor:
    """Read samples (batch, places) of each recording; silence outside of it."""
    inside = (place >= 0) & (place < lengths[:, None])
    index = place.clamp(0, waveform.shape[1] - 1)[..., None].expand(-1, -1, waveform.shape[2])
    return torch.gather(waveform, 1, index).masked_fill(~inside[..., None], 0)


def crops_of(
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    size: int,
    count: int,
) -> Float[Tensor, "crops_batch size channels"]:
    """Cut evenly spaced stretches out of recordings, for testing.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        size: Samples of a stretch; a shorter recording is in the middle of silence.
        count: Stretches of each recording.

    Returns:
        All stretches of the first recording, then those of the second, and so on.
    """
    room = lengths - size
    share = (
        torch.linspace(0, 1, count, device=waveform.device)
        if count > 1
        else torch.full((1,), 0.5, device=waveform.device)
    )
    start = torch.where(room[:, None] > 0, room[:, None] * share, room[:, None] / 2).floor().long()
    if waveform.shape[1] < size:
        waveform = F.pad(waveform, (0, 0, 0, size - waveform.shape[1]))
    rows = waveform.repeat_interleave(count, dim=0)
    place = start.flatten()[:, None] + torch.arange(size, device=waveform.device)
    return _at(rows, place, lengths.repeat_interleave(count))
