"""Values over time from windows that overlap, each read from a fresh state."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from audio.heads import FrameHead
from audio.hops import StreamingConfig, cut_windows, describe, described, frames_of_window, pieces_of
from audio.models import WaveformClassifier


class WindowScorer:
    """Values of overlapping windows, each read from a fresh state: of any classifier or tagger.

    A classifier's window has the hop in its middle. A tagger's window has several hops in its middle, and
    frames around that give them context. Towards both ends of the recording there is less around.

    Args:
        model: In evaluation mode.
        config: How to read.
    """

    def __init__(self, model: WaveformClassifier, config: StreamingConfig) -> None:
        self._model, self._device = model, next(model.parameters()).device
        self.labels, self.rate, self.channels = described(model)
        window, hop = frames_of_window(model, config)
        frame = model.frame
        self._tags = isinstance(model.head, FrameHead)
        self.hop = hop * frame
        if self._tags:
            grain = frame * getattr(model.backbone, "step_period", 1)  # windows begin where pooled frames do
            self._around = -(-round(config.context * self.rate) // grain) * grain
            self._core = -(-max(2 * self._around, self.hop) // (hop * grain)) * hop * grain
            what = f"{self._around / self.rate:g} s of context to either side"
            self.description = describe(self, f"windows from a fresh state, {what}")
        else:
            self._around, self._core = (window - hop) // 2 * frame, self.hop
            self.description = describe(self, "windows from a fresh state", window * frame)
        self.latency = self._around + self._core - self.hop
        self._samples = torch.zeros(0, self.channels)
        self._before = 0  # samples in front of the next window's core that are still held

    def push(self, waveform: Float[Tensor, "length channels"]) -> Float[Tensor, "hops values"]:
        """See `Scorer.push`."""
        made = []
        for piece in pieces_of(waveform, self._device):
            self._samples = torch.cat((self._samples, piece))
            made.append(self._values(last=False))
        return torch.cat(made)

    def finish(self) -> Float[Tensor, "hops values"]:
        """See `Scorer.finish`."""
        return self._values(last=True)

    @torch.inference_mode()
    def _values(self, *, last: bool) -> Tensor:
        waiting, core, around = len(self._samples) - self._before, self._core, self._around
        count = -(-waiting // core) if last else max(0, (waiting - around) // core)
        starts = range(self._before, self._before + count * core, core)
        end = len(self._samples)
        spans = [(max(0, start - around), min(end, start + core + around)) for start in starts]
        if self._tags:
            cores = [(start, min(end, start + core)) for start in starts]
            values = [self._tag(*span, *inner) for span, inner in zip(spans, cores, strict=True)]
        else:
            values = [self._predict(windows) for windows in cut_windows(self._samples, spans)]
        forget = max(0, self._before + count * core - around)
        self._before += count * core - forget
        self._samples = self._samples[forget:].clone()
        return torch.cat(values).cpu() if values else torch.zeros(0, len(self.labels))

    def _tag(self, first: int, last: int, start: int, end: int) -> Tensor:
        """Return the values of the hops from start to end, read in the window from first to last."""
        predicted = self._predict(self._samples[None, first:last])[0]
        frame = self._model.frame
        inner = predicted[(start - first) // frame : -(-(end - first) // frame)]
        return torch.stack([hop.mean(dim=0) for hop in inner.split(self.hop // frame)])

    def _predict(self, windows: Tensor) -> Tensor:
        return self._model.predict(windows.to(self._device))
