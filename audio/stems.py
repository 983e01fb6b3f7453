"""What stands in front of a backbone and turns samples into frames: learned convolutions with strides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audio.rates import kernel_at_rate, stride_at_rate
from seqmamba.errors import UserError
from seqmamba.nn.norm import LayerNorm
from seqmamba.nn.options import is_whole, require
from seqmamba.nn.packing import length_mask


@dataclass(frozen=True)
class StridedStemConfig:
    """Convolutions over samples, each with a norm over its channels and a SiLU behind it.

    Args:
        kernels: Samples, then frames, that each convolution sees at once.
        strides: Steps of each, not longer than its kernel; their product is the length of a frame in samples.
        widths: Output channels of each but the last, which has those of the backbone.

    Raises:
        UserError: If a value is out of range.
    """

    kernels: tuple[int, ...] = (64, 8, 8)
    strides: tuple[int, ...] = (8, 4, 4)
    widths: tuple[int, ...] = (32, 64)

    def __post_init__(self) -> None:
        for name in ("kernels", "strides", "widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # YAML and JSON have lists
            values = getattr(self, name)
            require(all(map(is_whole, values)), name, "whole numbers >= 1", values)
        layers = len(self.kernels)
        require(layers > 0, "kernels", "at least one", self.kernels)
        require(len(self.strides) == layers, "strides", f"{layers}, one for each kernel", self.strides)
        require(len(self.widths) == layers - 1, "widths", f"{layers - 1}, one less than kernels", self.widths)
        fits = all(stride <= kernel for stride, kernel in zip(self.strides, self.kernels, strict=True))
        require(fits, "strides", f"at most the kernels, {self.kernels}", self.strides)

    @property
    def frame(self) -> int:
        """Samples of a frame."""
        return math.prod(self.strides)


class Frames(NamedTuple):
    """What a stem makes of a batch of waveforms.

    Attributes:
        x: Features; zero behind the true lengths.
        lengths: True numbers of frames; None without padding.
        rate: The training's rate of frames over that of these: 1 where a frame lasts as long as in training.
    """

    x: Float[Tensor, "batch frames dim"]
    lengths: Int[Tensor, " batch"] | None
    rate: float = 1.0


_Count = TypeVar("_Count", int, Tensor)


def frames_of(samples: _Count, stride: int) -> _Count:
    """Return how many frames a number of samples makes, the last one filled up with zeros."""
    return (samples + stride - 1) // stride


def masked(
    x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None
) -> Float[Tensor, "batch length dim"]:
    """Return the sequences with zeros behind their true lengths, whatever stood there."""
    return x if lengths is None else x.masked_fill(~length_mask(lengths, x.shape[1])[..., None], 0)


class StridedStem(nn.Module):
    """Turns waveforms into frames by a few strided convolutions.

    A causal stem sees no sample behind the end of a frame and can take a waveform in parts; another one is
    centred. The end of a waveform is filled up with zeros to a whole frame; what stands behind the true
    lengths never matters.

    Args:
        config: Kernels, strides and widths.
        channels: Channels of the waveform.
        d_model: Channels of the frames.
        causal: Whether a frame ends with the newest sample that it sees.
    """

    def __init__(self, config: StridedStemConfig, channels: int, d_model: int, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        widths = (channels, *config.widths, d_model)
        self.convs = nn.ModuleList(
            nn.Conv1d(before, behind, kernel, stride)
            for before, behind, kernel, stride in zip(
                widths, widths[1:], config.kernels, config.strides, strict=False
            )
        )
        self.norms = nn.ModuleList(LayerNorm(width) for width in widths[1:])

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
        """Turn a batch of waveforms into frames.

        Args:
            waveform: Samples, padded on the right.
            lengths: True lengths in samples; None means no padding.
            rate: Training sampling rate over the input's.
            keep_frames: Whether frames last as long as in training, as far as strides can; otherwise strides
                stay as they are and frames get longer by the rate.

        Raises:
            UserError: If the rate is not a positive number.
        """
        x = masked(waveform, lengths)
        for index in range(len(self.convs)):
            stride, left = self._conv(index).stride[0], rate
            if rate != 1 and keep_frames:
                stride, left = stride_at_rate(stride, rate)
            x = self._convolve(index, x, stride, rate)
            lengths = None if lengths is None else frames_of(lengths, stride)
            x, rate = masked(x, lengths), left
        return Frames(x, lengths, rate)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> list[Tensor]:
        """Return what lies in front of the first sample: zeros, of each convolution.

        Args:
            batch_size: Waveforms that run side by side.
            device: Where the state lives; the parameters' device by default.

        Raises:
            UserError: If the stem is not causal.
        """
        if not self.causal:
            raise UserError("a centred stem takes whole waveforms: it sees samples behind the end of a frame")
        return [
            conv.weight.new_zeros(
                batch_size, conv.kernel_size[0] - conv.stride[0], conv.in_channels, device=device
            )
            for conv in map(self._conv, range(len(self.convs)))
        ]

    def stream(
        self, waveform: Float[Tensor, "batch length channels"], state: list[Tensor], *, last: bool = False
    ) -> tuple[Float[Tensor, "batch frames dim"], list[Tensor]]:
        """Turn the next part of waveforms into the frames that it completes.

        Laid end to end these are the frames of the whole, whatever the parts.

        Args:
            waveform: The next samples, any number, also none.
            state: What `init_state` or the part before returned.
            last: Whether this is the last part, so that a frame that has begun is filled up with zeros.

        Returns:
            The frames, possibly none, and the state for the next part.
        """
        x, new = waveform, []
        for index, before in enumerate(state):
            conv = self._conv(index)
            kernel, stride = conv.kernel_size[0], conv.stride[0]
            joined = torch.cat((before.to(x.dtype), x), dim=1)
            begun = joined.shape[1] - (kernel - stride)  # samples of frames that are not done
            if last:
                joined = F.pad(joined, (0, 0, 0, -begun % stride))
                begun += -begun % stride
            frames = begun // stride
            x = self._apply_kernel(index, joined, conv.weight, stride) if frames else self._none(index, x)
            new.append(joined[:, frames * stride :].clone())  # a view would keep the whole part in memory
        return x, new

    def _convolve(self, index: int, x: Tensor, stride: int, rate: float) -> Tensor:
        """Run a convolution over whole sequences, at another sampling rate than the training's."""
        conv = self._conv(index)
        weight: Tensor = conv.weight
        spare = conv.kernel_size[0] - conv.stride[0]
        first = -spare if self.causal else -(spare // 2)
        if rate != 1:
            newest = stride - 1 if self.causal else None
            weight, first = kernel_at_rate(weight, first, rate, newest=newest)
        length = x.shape[1]
        behind = (frames_of(length, stride) - 1) * stride + first + weight.shape[2] - length
        return self._apply_kernel(index, F.pad(x, (0, 0, -first, behind)), weight, stride)

    def _conv(self, index: int) -> nn.Conv1d:
        return cast(nn.Conv1d, self.convs[index])

    def _apply_kernel(self, index: int, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        bias = self._conv(index).bias
        if index == 0:
            # As one matrix product: convolutions of a channel or two are slow to differentiate on a GPU.
            y = F.linear(x.unfold(1, weight.shape[2], stride).flatten(2), weight.flatten(1), bias)
        else:
            y = F.conv1d(x.mT, weight, bias, stride).mT
        return F.silu(self.norms[index](y))

    def _none(self, index: int, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 0, self._conv(index).out_channels)
