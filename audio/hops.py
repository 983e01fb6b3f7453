"""Hops: the steps in time for which a recording of any length gets values, and what is read for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from audio.heads import FrameHead
from audio.models import WaveformClassifier
from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_choice

State = Literal["carried", "fresh"]
DEFAULT_WINDOW = 1.0
"""Seconds of a window where a model does not know how long its training recordings were."""
DEFAULT_CONTEXT = 2.0
"""Seconds that a window of a tagger sees to either side of the frames it is read for."""
_PIECE = {"cuda": 2**16}  # samples that go through a model at once
_SMALL_PIECE = 2**12  # as fast on a CPU, whose memory is that of everything else, too
_WINDOWS = 16  # of one length that run side by side


@dataclass(frozen=True)
class StreamingConfig:
    """How a recording is read.

    Args:
        hop: Seconds of a value, rounded to whole frames of the model. By default a frame of a tagger, a
            quarter of the window of a classifier.
        window: Seconds that a value of a classifier is about, with the hop in their middle. By default the
            length that recordings of its training were cut to, else the longest of them.
        context: For taggers that are not causal: seconds that they see to either side.
        state: ``carried`` through the recording, or ``fresh`` in every window. By default carried where the
            model is causal.

    Raises:
        UserError: If a value is out of range.
    """

    _: KW_ONLY
    hop: float | None = None
    window: float | None = None
    context: float = DEFAULT_CONTEXT
    state: State | None = None

    def __post_init__(self) -> None:
        for name in ("hop", "window"):
            value = getattr(self, name)
            good = value is None or (is_number(value) and value > 0)
            require(good, name, "a number of seconds > 0", value)
        good = is_number(self.context) and self.context >= 0
        require(good, "context", "a number of seconds >= 0", self.context)
        if self.state is not None:
            require_choice("state", self.state, ("carried", "fresh"))


class Scorer(Protocol):
    """Turns samples at the model's rate into values of hops.

    Attributes:
        labels: Name of each value.
        rate: Samples a second.
        channels: Channels of a sample.
        hop: Samples of a hop.
        latency: Samples behind the end of a hop that must have come before its values do, at most.
        description: How the recording is read, for the user.
    """

    labels: tuple[str, ...]
    rate: int
    channels: int
    hop: int
    latency: int
    description: str

    def push(self, waveform: Float[Tensor, "length channels"]) -> Float[Tensor, "hops values"]:
        """Take the next samples, any number of them, and return the values of the hops that are done."""

    def finish(self) -> Float[Tensor, "hops values"]:
        """Return the values of the hops that are left, the last of which may not be full."""


def pieces_of(
    waveform: Float[Tensor, "length channels"], device: torch.device
) -> tuple[Float[Tensor, "piece channels"], ...]:
    """Split samples into as many as a model on a device should take at once.

    Args:
        waveform: Samples.
        device: That of the model.
    """
    return waveform.split(_PIECE.get(device.type, _SMALL_PIECE))


def cut_windows(x: Tensor, spans: list[tuple[int, int]]) -> Iterator[Tensor]:
    """Yield the windows that spans cut out of a sequence, in their order, those of one length side by side.

    Args:
        x: The sequence (length, channels).
        spans: First position of each window, and the one behind its last.

    Yields:
        Windows (windows, length, channels).
    """
    for _, group in groupby(spans, key=lambda span: span[1] - span[0]):
        same = list(group)
        for first in range(0, len(same), _WINDOWS):
            yield torch.stack([x[start:end] for start, end in same[first : first + _WINDOWS]])


def described(model: WaveformClassifier) -> tuple[tuple[str, ...], int, int]:
    """Return the labels, the sampling rate and the channels of a model."""
    return model.config.classes, model.config.rate, model.config.channels


def frames_of_window(model: WaveformClassifier, config: StreamingConfig) -> tuple[int, int]:
    """Return the frames of a window and of a hop; what is left of a window is the same on both sides."""
    per_second = model.config.rate / model.frame
    if isinstance(model.head, FrameHead):
        if config.window is not None:
            raise UserError("window: a tagger gives a value for every frame and has no windows")
        hop = 1 if config.hop is None else max(1, round(config.hop * per_second))
        return hop, hop
    seconds = config.window
    if seconds is None:
        length = model.config.crop_length or model.config.max_length
        seconds = DEFAULT_WINDOW if length is None else length / model.config.rate
    window = max(1, round(seconds * per_second))
    hop = max(1, window // 4) if config.hop is None else max(1, round(config.hop * per_second))
    if hop > window:
        raise UserError(f"hop: expected at most the window of {seconds:g} s, got {config.hop} s")
    return hop + (window - hop + 1) // 2 * 2, hop


def describe(scorer: Scorer, how: str, window: int | None = None) -> str:
    """Say how a recording is read; ``window`` is in samples."""
    text = f"{scorer.rate} Hz, a value every {scorer.hop / scorer.rate:.4g} s"
    if window is not None:
        text += f" about the {window / scorer.rate:.4g} s around it"
    return f"{text}, {how}"
