"""Values over time of recordings of any length: what a model says of every hop, in memory that does not grow.

A causal model carries its state from block to block: that of its convolutions, of its state spaces, of frames
and poolings that are not full. Its values are those of the whole recording at once, whatever the blocks.
Other models read overlapping windows, each from a fresh state.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio.code_stem import CodeStem
from audio.heads import FrameHead
from audio.hops import (
    Scorer,
    StreamingConfig,
    cut_windows,
    describe,
    described,
    frames_of_window,
    pieces_of,
)
from audio.models import WaveformClassifier
from audio.stems import StridedStem
from audio.surprise import SurpriseScorer
from audio.waveform_model import WaveformModel
from audio.windowed import WindowScorer
from seqmamba.errors import UserError
from seqmamba.nn.state import describe_state


def build_scorer(model: nn.Module, config: StreamingConfig) -> Scorer:
    """Return what reads recordings by a model.

    Args:
        model: A `WaveformClassifier`, or a `WaveformModel`, whose values are bits per sample.
        config: How to read.

    Raises:
        UserError: If the model is of another kind, or cannot be read so.
    """
    model.eval()
    if isinstance(model, WaveformModel):
        return SurpriseScorer(model, config)
    if not isinstance(model, WaveformClassifier):
        raise UserError(f"model: expected a model of waveforms, got a {type(model).__name__}")
    causal = model.config.backbone.direction == "causal"
    state = config.state or ("carried" if causal else "fresh")
    if state == "carried":
        if not causal:
            raise UserError("state: a bidirectional model has none to carry, expected fresh")
        return CarriedScorer(model, config)
    return WindowScorer(model, config)


class CarriedScorer:
    """Values of a causal classifier or tagger whose state is carried from the first sample to the last.

    Args:
        model: In evaluation mode.
        config: How to read.
    """

    def __init__(self, model: WaveformClassifier, config: StreamingConfig) -> None:
        self._model, self._stem = model, cast(StridedStem | CodeStem, model.stem)
        self.labels, self.rate, self.channels = described(model)
        window, hop = frames_of_window(model, config)
        self._hop, self._around = hop, (window - hop) // 2
        self.hop, self.latency = hop * model.frame, self._around * model.frame
        about = None if isinstance(model.head, FrameHead) else window * model.frame
        self.description = describe(self, "state carried", about)
        self._stem_state = self._stem.init_state(1)
        self._state = model.backbone.init_state(1)
        self._frames = torch.zeros(0, model.config.backbone.d_model, device=next(model.parameters()).device)
        self._before = 0  # frames in front of the next hop that are still held
        self._checked = False

    def push(self, waveform: Float[Tensor, "length channels"]) -> Float[Tensor, "hops values"]:
        """See `Scorer.push`."""
        return self._take(waveform, last=False)

    def finish(self) -> Float[Tensor, "hops values"]:
        """See `Scorer.finish`."""
        return self._take(self._frames.new_zeros(0, self.channels), last=True)

    @torch.inference_mode()
    def _take(self, waveform: Tensor, *, last: bool) -> Tensor:
        made = []
        pieces = pieces_of(waveform.to(self._frames.device), self._frames.device)
        for number, piece in enumerate(pieces):
            end = last and number == len(pieces) - 1
            x, self._stem_state = self._stem.stream(piece[None], self._stem_state, last=end)
            if x.shape[1]:
                self._frames = torch.cat((self._frames, self._read(x)))
            made.append(self._values(end))
        return torch.cat(made)

    def _read(self, frames: Tensor) -> Tensor:
        """Run the backbone over the next frames (1, frames, dim)."""
        before = self._state
        x, self._state = self._model.backbone(frames, state=before, return_state=True)
        if self._checked:
            return x[0]
        self._checked = True
        if _sizes(before) != _sizes(self._state):
            raise UserError(
                "state: the model's grows with the recording, as that of attention without a window does",
                hint="read windows from a fresh state",
            )
        return x[0]

    def _values(self, last: bool) -> Tensor:
        """Return the values of the hops whose frames, and those around them, are there."""
        waiting, hop, around = len(self._frames) - self._before, self._hop, self._around
        count = -(-waiting // hop) if last else max(0, (waiting - around) // hop)
        spans = [
            (max(0, start - around), min(len(self._frames), start + hop + around))
            for start in range(self._before, self._before + count * hop, hop)
        ]
        values = [self._score(windows) for windows in cut_windows(self._frames, spans)]
        forget = max(0, self._before + count * hop - around)
        self._before += count * hop - forget
        self._frames = self._frames[forget:].clone()  # a view would keep all frames in memory
        return torch.cat(values).cpu() if values else torch.zeros(0, len(self.labels))

    def _score(self, windows: Tensor) -> Tensor:
        """Return the values (windows, values) of windows of frames (windows, frames, dim)."""
        head = self._model.head
        if isinstance(head, FrameHead):
            return self._model.to_predictions(head(windows)).mean(dim=1)
        return self._model.to_predictions(head(head.pool(windows)))


def _sizes(state: Any) -> dict[str, Any]:
    """Return the shapes of a state's tensors, without the whole numbers, which come round."""
    return {name: part for name, part in describe_state(state).items() if isinstance(part, tuple)}
