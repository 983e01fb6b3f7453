"""How much a generative model is surprised by a recording, over time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audio.hops import StreamingConfig, describe, pieces_of
from audio.waveform_model import WaveformModel
from seqmamba.errors import UserError

_HOP = 0.1


class SurpriseScorer:
    """Mean bits per sample that a generative model finds in each hop, its state carried.

    Args:
        model: In evaluation mode; read without a class.
        config: How to read.
    """

    LABELS: tuple[str, ...] = ("bits",)

    def __init__(self, model: WaveformModel, config: StreamingConfig) -> None:
        if config.window is not None or config.state == "fresh":
            raise UserError("window, state: a generative model carries its state and has no windows")
        self._model, self._device = model, next(model.parameters()).device
        self.labels, self.rate, self.channels = self.LABELS, model.config.rate, 1
        self.hop = max(1, round((config.hop or _HOP) * self.rate))
        self.latency = 0
        self.description = describe(self, "state carried")
        self._state: Any = None
        self._last: Tensor | None = None
        self._bits = torch.zeros(0)

    def push(self, waveform: Float[Tensor, "length channels"]) -> Float[Tensor, "hops values"]:
        """See `Scorer.push`."""
        return torch.cat([self._take(piece) for piece in pieces_of(waveform, self._device)])

    def finish(self) -> Float[Tensor, "hops values"]:
        """See `Scorer.finish`."""
        return self._bits.mean().view(1, 1) if len(self._bits) else torch.zeros(0, 1)

    @torch.inference_mode()
    def _take(self, piece: Tensor) -> Tensor:
        if len(piece):
            codes = self._model.encode(piece[None].to(self._device))
            bits, self._state = self._model.surprise(
                codes, before=self._last, state=self._state, return_state=True
            )
            self._last = codes[:, -1].clone()  # a view would keep the whole piece in memory
            self._bits = torch.cat((self._bits, bits[0].cpu()))
        whole = len(self._bits) // self.hop * self.hop
        values = self._bits[:whole].view(-1, self.hop).mean(dim=1, keepdim=True)
        self._bits = self._bits[whole:].clone()
        return values
