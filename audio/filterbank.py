"""A bank of learned filters over samples, the logarithm of their energies, and convolutions over both axes.

The samples go through pairs of filters, each pair's squared outputs are added and averaged over a frame, as
in LEAF (Zeghidour et al. 2021, arXiv:2101.08596, section 3), and the logarithms form a map of time and
filters. Small convolutions over the map, as in EnvNet (Tokozume & Harada 2017,
doi:10.1109/ICASSP.2017.7952651), find shapes wherever they lie in frequency. Everything is learned; the
filters may begin as Gabor filters on the mel scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audio.rates import kernel_at_rate, stride_at_rate
from audio.stems import Frames, frames_of, masked
from seqmamba.nn.initialisers import protect
from seqmamba.nn.options import is_number, is_whole, require, require_choice, require_whole
from seqmamba.nn.packing import length_mask

_FLOOR = 1e-8
"""Added to energies before their logarithm: 80 dB below a sine of full scale."""


@dataclass(frozen=True)
class FilterbankConfig:
    """A learned filter bank and the convolutions over its map.

    Args:
        filters: Pairs of filters: places on the frequency axis.
        window: Samples that a filter sees at once.
        hop: Samples from output to output of a filter.
        pool: Outputs whose mean energy makes a row of the map.
        initial: ``gabor`` begins with Gabor filters on the mel scale, ``random`` with noise.
        lowest: Centre of the lowest Gabor filter in Hz.
        widths: Output channels of each stage of convolutions.
        pools: Rows and places that a stage's maximum is taken over.

    Raises:
        UserError: If a value is out of range.
    """

    filters: int = 64
    window: int = 512
    hop: int = 40
    pool: int = 4
    initial: Literal["gabor", "random"] = "gabor"
    lowest: float = 60.0
    widths: tuple[int, ...] = (32, 64, 128)
    pools: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (1, 2))

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # YAML and JSON have lists
        object.__setattr__(self, "pools", tuple(map(tuple, self.pools)))
        for name in ("filters", "window", "hop", "pool"):
            require_whole(name, getattr(self, name))
        require(self.hop <= self.window, "hop", f"at most the window, {self.window}", self.hop)
        require_choice("initial", self.initial, ("gabor", "random"))
        require(is_number(self.lowest) and self.lowest > 0, "lowest", "a frequency > 0 Hz", self.lowest)
        whole = all(map(is_whole, self.widths)) and len(self.widths) > 0
        require(whole, "widths", "one whole number >= 1 or more", self.widths)
        pairs = all(len(pair) == 2 and all(map(is_whole, pair)) for pair in self.pools)
        expected = f"{len(self.widths)} pairs of whole numbers >= 1, one for each width"
        require(pairs and len(self.pools) == len(self.widths), "pools", expected, self.pools)

    @property
    def frame(self) -> int:
        """Samples of a frame."""
        return self.hop * self.pool * math.prod(rows for rows, _ in self.pools)


class Filterbank(nn.Module):
    """Log energies of learned filters: (batch, length, channels) to (batch, rows, filters).

    Args:
        config: ``filters``, ``window``, ``hop``, ``pool``, ``initial`` and ``lowest`` are read.
        sampling_rate: Of the training, in Hz.
    """

    scale: Tensor

    def __init__(self, config: FilterbankConfig, sampling_rate: int) -> None:
        super().__init__()
        self.config = config
        if config.initial == "gabor":
            initial = gabor_filters(config.filters, config.window, sampling_rate, config.lowest)
        else:
            initial = torch.randn(2 * config.filters, config.window) / config.window
        # Weights of unit size: the steps of an optimiser like Adam are of one size whatever a weight's, and
        # would wipe out filters whose values are a few hundredths.
        scale = initial.square().mean(dim=1, keepdim=True).sqrt()
        if config.initial == "random":
            scale = torch.full_like(scale, 1 / config.window)
        self.weight = protect(nn.Parameter(initial / scale))  # (2 filters, window)
        self.register_buffer("scale", scale)

    def forward(self, waveform: Float[Tensor, "batch length channels"], rate: float) -> tuple[Tensor, float]:
        """Return the map, and the training's rate of rows over that of its rows.

        Energies of several channels are averaged.

        Args:
            waveform: Samples; zero behind the true lengths.
            rate: Training sampling rate over the input's.
        """
        config = self.config
        weight = self.weight * self.scale
        first, hop, left = -((config.window - config.hop) // 2), config.hop, 1.0
        if rate != 1:
            hop, left = stride_at_rate(hop, rate)
            resampled, first = kernel_at_rate(weight[:, None], first, rate)
            weight = resampled[:, 0]
        length = waveform.shape[1]
        outputs = config.pool * frames_of(length, config.pool * hop)
        behind = (outputs - 1) * hop + first + weight.shape[1] - length
        # float32: under bfloat16 the rounding of loud low tones would drown quiet high ones
        with torch.autocast(waveform.device.type, enabled=False):
            samples = F.pad(waveform.mT.to(weight.dtype), (-first, behind))
            y = F.linear(
                samples.unfold(2, weight.shape[1], hop), weight
            )  # (batch, channels, outputs, 2 filters)
            real, imaginary = y.chunk(2, dim=-1)
            energy = (real.square() + imaginary.square()).mean(dim=1)
            energy = energy.unflatten(1, (-1, config.pool)).mean(dim=2)
            return torch.log(energy + _FLOOR), left


def gabor_filters(
    filters: int, window: int, sampling_rate: int, lowest: float
) -> Float[Tensor, "pairs window"]:
    """Return Gabor filters whose centres are evenly spaced on the mel scale, up to half the sampling rate.

    A filter falls to half its power half way to its neighbours, as far as the window is long enough for
    that. A sine of full scale at its centre has the energy 1.

    Args:
        filters: Number of pairs.
        window: Samples of a filter.
        sampling_rate: In Hz.
        lowest: Centre of the lowest, in Hz.

    Returns:
        The cosines of all pairs, then the sines.
    """
    low, high = _mel(lowest), _mel(sampling_rate / 2)
    centres = 700 * (10 ** (torch.linspace(low, high, filters + 1, dtype=torch.float64)[:-1] / 2595) - 1)
    step = (high - low) / filters
    widths = (700 + centres) * (10 ** (step / 2595) - 1)  # Hz from a centre to the next
    t = (torch.arange(window, dtype=torch.float64) - (window - 1) / 2) / sampling_rate
    # A Gaussian of standard deviation s in time has half its power at sqrt(ln 2) / (2 pi s) Hz.
    spread = (math.sqrt(math.log(2)) / (math.pi * widths)).clamp(max=window / sampling_rate / 5)
    envelope = torch.exp(-0.5 * (t / spread[:, None]) ** 2)
    envelope = 2 * envelope / envelope.sum(dim=1, keepdim=True)
    phase = 2 * math.pi * centres[:, None] * t
    return torch.cat((envelope * torch.cos(phase), envelope * torch.sin(phase))).float()


def _mel(frequency: float) -> float:
    """Return mels of Hz (O'Shaughnessy 1987)."""
    return 2595 * math.log10(1 + frequency / 700)


class MaskedBatchNorm(nn.BatchNorm2d):
    """Batch norm of maps (batch, channels, rows, places) whose statistics leave out the padding.

    One whose weights are frozen keeps its statistics, and normalises by them in training, too.

    Args:
        channels: Channels of the maps.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor, mask: Bool[Tensor, "batch rows"] | None = None) -> Tensor:
        """Normalise; in training by the mean and variance of the rows that the mask marks as true."""
        if not self.weight.requires_grad:
            kept = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(x, *kept, training=False, eps=self.eps)
        if mask is None or not self.training:
            return super().forward(x)
        wide, shown = x.float(), mask[:, None, :, None]
        count = mask.sum() * x.shape[3]
        mean = (wide * shown).sum(dim=(0, 2, 3)) / count
        centred = wide - mean[:, None, None]
        variance = (centred.square() * shown).sum(dim=(0, 2, 3)) / count
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class FilterbankStem(nn.Module):
    """Turns waveforms into frames by a learned filter bank and convolutions over time and filters.

    Frames are centred. The end of a waveform is filled up with zeros; what stands behind the true lengths
    never matters.

    Args:
        config: Sizes and initial filters.
        sampling_rate: Of the training, in Hz.
        d_model: Channels of the frames.
    """

    def __init__(self, config: FilterbankConfig, sampling_rate: int, d_model: int) -> None:
        super().__init__()
        self.config = config
        self.filterbank = Filterbank(config, sampling_rate)
        self.norm = MaskedBatchNorm(config.filters)
        self.stages = nn.ModuleList()
        before, places = 1, config.filters
        for width, (_, narrow) in zip(config.widths, config.pools, strict=True):
            self.stages.append(_Stage(before, width))
            before, places = width, math.ceil(places / narrow)
        self.proj = nn.Linear(before * places, d_model)

    @property
    def frame(self) -> int:
        """Samples of a frame at the training's rate."""
        return self.config.frame

    def forward(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: float = 1.0,
        keep_frames: bool = True,
    ) -> Frames:
        """Turn a batch of waveforms into frames; see `StridedStem.forward`.

        ``keep_frames`` must be true: the convolutions over the map know no rate.

        Raises:
            UserError: If it is not, or the rate is not a positive number.
        """
        require(keep_frames, "keep_frames", "true with a filter bank", keep_frames)
        config = self.config
        rows, left = self.filterbank(masked(waveform, lengths), rate)
        if lengths is not None:
            hop, _ = stride_at_rate(config.hop, rate)
            lengths = frames_of(lengths, hop * config.pool)
        mask = None if lengths is None else length_mask(lengths, rows.shape[1])
        x = self.norm(rows.mT[..., None], mask)[..., 0].mT[:, None]  # (batch, 1, rows, filters)
        for stage, pool in zip(self.stages, config.pools, strict=True):
            x = stage(x, mask)
            x = F.max_pool2d(x, pool, ceil_mode=True)
            lengths = None if lengths is None else frames_of(lengths, pool[0])
            mask = None if lengths is None else length_mask(lengths, x.shape[2])
        return Frames(masked(self.proj(x.transpose(1, 2).flatten(2)), lengths), lengths, left)


class _Stage(nn.Module):
    """Two convolutions of 3 x 3, each with batch norm and ReLU behind it; the padding stays zero."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, width, 3, padding=1, bias=False) for channels in (before, width)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(width) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        shown = None if mask is None else mask[:, None, :, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x if shown is None else x.masked_fill(~shown, 0))
            x = F.relu(norm(x, mask))
        return x if shown is None else x.masked_fill(~shown, 0)
