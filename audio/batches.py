"""What a data module of labelled waveforms delivers, and what a task may ask of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import Tensor


class WaveformBatch(NamedTuple):
    """A batch of labelled recordings.

    Attributes:
        waveform: Samples in [-1, 1], float32, padded on the right.
        lengths: True lengths in samples, int64.
        target: Class numbers (batch,) int64, or label or target values (batch, k) float32; for tagging 0/1
            values (batch, frames, k), NaN where unknown.
        index: Positions of the recordings in the data module's list, int64.
    """

    waveform: Float[Tensor, "batch length channels"]
    lengths: Int[Tensor, " batch"]
    target: Shaped[Tensor, "batch *target"]  # noqa: UP037  dimensions, no type
    index: Int[Tensor, " batch"]  # type: ignore[assignment]  # a tuple has a method of this name


class LabelledWaveforms(Protocol):
    """What `audio.tasks.WaveformTask` reads from its data module after setup.

    Attributes:
        task: What the labels mean.
        classes: Class names, or target names for regression.
        rate: Sampling rate in Hz.
        channels: Channels of a waveform.
        max_length: Samples of the longest waveform.
        names: Name of each recording.
        seconds: Duration of each.
        labels: Class numbers (n,), or labels or targets (n, k).
        assignment: ``train``, ``validation``, ``test`` or empty, for each recording.
        explanation: How they were divided, in a sentence.
        notes: Sentences that the reader of results should know.
    """

    task: str
    classes: tuple[str, ...]
    rate: int
    channels: int
    max_length: int
    names: list[str]
    seconds: Float[np.ndarray, " n"]
    labels: Shaped[np.ndarray, "n *k"]  # noqa: UP037  dimensions, no type
    assignment: np.ndarray
    explanation: str
    notes: list[str]
