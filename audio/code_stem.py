"""A front end of codes: each sample's class number is looked up in a table, as a generative model does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audio.codec import CODECS, Codec
from audio.rates import require_rate
from audio.stems import Frames, masked
from seqmamba.nn.options import is_whole, require, require_choice


@dataclass(frozen=True)
class CodeStemConfig:
    """Samples as codes, each with a learned vector.

    Args:
        bits: Bits of a sample's code, 1 to 16.
        codec: ``mu_law`` or ``linear``.

    Raises:
        UserError: If a value is out of range.
    """

    bits: int = 8
    codec: Codec = "mu_law"

    def __post_init__(self) -> None:
        require(is_whole(self.bits) and self.bits <= 16, "bits", "a whole number from 1 to 16", self.bits)
        require_choice("codec", self.codec, tuple(CODECS))


class CodeStem(nn.Module):
    """Turns each sample into a frame, by its code; causal, as a frame sees no sample but its own.

    Args:
        config: Bits and codec.
        channels: Channels of the waveform; must be 1.
        d_model: Channels of the frames.

    Raises:
        UserError: If there is more than one channel.
    """

    frame = 1

    def __init__(self, config: CodeStemConfig, channels: int, d_model: int) -> None:
        super().__init__()
        require(channels == 1, "channels", "1 with a stem of codes", channels)
        self.config = config
        self.embedding = nn.Embedding(2**config.bits, d_model)

    def forward(
        self,
        waveform: Float[Tensor, "batch length channels"],
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        rate: float = 1.0,
        keep_frames: bool = True,
    ) -> Frames:
        """Turn a batch of waveforms into frames; see `StridedStem.forward`.

        A frame is a sample at any sampling rate, so all of another rate is left to the backbone.

        Raises:
            UserError: If the rate is not a positive number.
        """
        require_rate(rate)
        return Frames(masked(self._embed(waveform), lengths), lengths, rate)

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> list[Tensor]:
        """Return what lies in front of the first sample: nothing."""
        return []

    def stream(
        self, waveform: Float[Tensor, "batch length channels"], state: list[Tensor], *, last: bool = False
    ) -> tuple[Float[Tensor, "batch frames dim"], list[Tensor]]:
        """Turn the next part of waveforms into frames; see `StridedStem.stream`."""
        return self._embed(waveform), state

    def _embed(self, waveform: Tensor) -> Tensor:
        codes = CODECS[self.config.codec][0](waveform[..., 0], self.config.bits)
        x: Tensor = self.embedding(codes)
        return x
