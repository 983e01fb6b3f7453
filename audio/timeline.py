"""What happens when in a recording: values of every hop and the events in them, while the recording comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio.events import Event, EventConfig, EventDetector
from audio.hops import StreamingConfig
from audio.models import WaveformClassifier
from audio.resampling import Resampler
from audio.streaming import build_scorer
from audio.windowed import WindowScorer
from seqmamba.errors import UserError


@dataclass(frozen=True)
class TimelineConfig:
    """How a recording becomes a timeline.

    Args:
        streaming: How it is read.
        events: How events are found.
        labels: Classes whose events are wanted; None: all.
    """

    _: KW_ONLY
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    events: EventConfig = field(default_factory=EventConfig)
    labels: tuple[str, ...] | None = None


class Moment(NamedTuple):
    """What a part of a recording made known.

    Attributes:
        values: Probabilities, or other values, of the hops that are done.
        edges: Where each of them begins, and the last one ends, in seconds.
        events: Events that are certain now.
    """

    values: Float[np.ndarray, "hops labels"]
    edges: Float[np.ndarray, " edges"]
    events: list[Event]


class Timeline:
    """Reads one recording of any sampling rate and length, in blocks of any size, in constant memory.

    Everything that a block leaves unfinished is carried to the next, so the blocks make no difference: the
    tail of the resampler, frames that are not full, the model's state, hops, the smoothing, and events.

    Args:
        model: A `WaveformClassifier` or a `WaveformModel`.
        rate: Samples a second of the recording.
        channels: Its channels.
        config: How.

    Raises:
        UserError: If the model cannot read it, or knows no such label.
    """

    def __init__(self, model: nn.Module, rate: int, channels: int, config: TimelineConfig) -> None:
        self.scorer = build_scorer(model, config.streaming)
        if channels != self.scorer.channels and self.scorer.channels != 1:
            raise UserError(f"channels: the model hears {self.scorer.channels}, the recording has {channels}")
        same = rate == self.scorer.rate
        self._resampler = None if same else Resampler(rate, self.scorer.rate)
        self.labels = self.scorer.labels
        wanted = self.labels if config.labels is None else config.labels
        for label in wanted:
            if label not in self.labels:
                raise UserError(f"--label: expected one of {', '.join(self.labels)}, got {label!r}")
        self._columns = [self.labels.index(label) for label in dict.fromkeys(wanted)]
        self._rate, self._samples, self._hops = rate, 0, 0
        self._detector: EventDetector | None = None
        if gives_probabilities(model):
            names = [self.labels[column] for column in self._columns]
            self._detector = EventDetector(names, self.scorer.hop / self.scorer.rate, config.events)

    @property
    def seconds(self) -> float:
        """How much of the recording has been read."""
        return self._samples / self._rate

    def push(self, block: Float[Tensor, "length channels"]) -> Moment:
        """Read the next samples.

        Args:
            block: Any number of them.
        """
        self._samples += len(block)
        return self._moment(self.scorer.push(self._heard(block)), end=False)

    def finish(self) -> Moment:
        """Return what the end of the recording makes known."""
        values = []
        if self._resampler is not None and self._samples:
            values.append(self.scorer.push(self._resampler.flush()))
        values.append(self.scorer.finish())
        return self._moment(torch.cat(values), end=True)

    def _heard(self, block: Tensor) -> Tensor:
        """Return the samples as the model hears them: its channels, at its rate."""
        if self.scorer.channels == 1:
            block = block.mean(dim=1, keepdim=True)
        return block if self._resampler is None else self._resampler.push(block)

    def _moment(self, values: Tensor, *, end: bool) -> Moment:
        numbers = values.numpy()
        edges = np.arange(self._hops, self._hops + len(numbers) + 1) * (self.scorer.hop / self.scorer.rate)
        self._hops += len(numbers)
        if end:
            edges = np.minimum(edges, max(self.seconds, edges[0]))  # the last hop may not be full
        if not np.isfinite(numbers).all():
            raise UserError(f"the model gives values that are no finite numbers near {edges[0]:.1f} s")
        events: list[Event] = []
        if self._detector is not None:
            events = self._detector.push(numbers[:, self._columns])
            events += self._detector.finish(self.seconds) if end else []
        return Moment(numbers, edges, events)


def gives_probabilities(model: nn.Module) -> bool:
    """Tell whether a model's values are probabilities, in which events can be found."""
    return isinstance(model, WaveformClassifier) and model.config.task != "regression"


def measure_deviation(
    model: nn.Module, waveform: Float[Tensor, "length channels"], config: StreamingConfig
) -> float | None:
    """Return how far the values of a bidirectional tagger in windows are from those of the whole, at most.

    Args:
        model: In evaluation mode.
        waveform: A recording that can be read whole, at the model's rate and with its channels.
        config: How windows are read.

    Returns:
        The largest difference of a probability; None where windows are what the values are about.
    """
    scorer = build_scorer(model, config)
    is_tagger = isinstance(model, WaveformClassifier) and model.config.task == "tagging"
    if not (isinstance(scorer, WindowScorer) and is_tagger):
        return None
    assert isinstance(model, WaveformClassifier)
    windows = torch.cat((scorer.push(waveform), scorer.finish()))
    with torch.inference_mode():
        whole = model.predict(waveform[None].to(next(model.parameters()).device))[0].cpu()
    per_hop = scorer.hop // model.frame
    of_hops = torch.stack([part.mean(dim=0) for part in whole.split(per_hop)])
    return (windows - of_hops).abs().max().item()


def describe_events(labels: Sequence[str], config: EventConfig) -> str:
    """Say how events are found."""
    text = f"{len(labels)} labels, from {config.enter:g} down to {config.leave:g}"
    text += f", median of {config.median} hops" if config.median > 1 else ""
    text += f", gaps below {config.min_gap:g} s closed" if config.min_gap else ""
    return text + (f", at least {config.min_duration:g} s" if config.min_duration else "")
