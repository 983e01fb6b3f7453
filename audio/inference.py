"""Applying a trained classifier: to batches, and to files of any format, rate and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio.crops import even_crops
from audio.models import RateMode, WaveformClassifier
from seqmamba.training.hardware import find_device
from seqmamba.training.run_folder import exported_model

Answer = Callable[[Tensor, Tensor | None], Tensor]
"""From waveforms (batch, length, channels) and true lengths, None without padding, to values (batch, k)."""


def load_model(folder: str | Path, device: str = "auto") -> WaveformClassifier:
    """Load a run's exported model; only safetensors and JSON are read.

    Args:
        folder: A run folder, the folder of an exported model, or ``owner/name`` on the hub.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: The folder holds no such model, or the device is not there.
    """
    return WaveformClassifier.from_pretrained(exported_model(folder), map_location=str(find_device(device)))


def predict_batch(
    model: WaveformClassifier,
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    crops: int = 1,
    *,
    rate: int | None = None,
    mode: RateMode = "frames",
) -> Float[Tensor, "batch classes"]:
    """Predict recordings: whole, or the mean over evenly spaced stretches of the length of training.

    Args:
        model: A trained model, not one for tagging.
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        crops: Stretches of each recording, where training cut them.
        rate: Sampling rate in Hz; None means that of the training.
        mode: How another rate is met; see `WaveformClassifier.forward`.

    Returns:
        Probabilities, or values for regression.
    """
    size = model.config.crop_length
    if size is not None and rate is not None:
        size = max(1, round(size * rate / model.config.rate))

    def predict(part: Tensor, true: Tensor | None) -> Tensor:
        return model.predict(part, true, rate=rate, mode=mode)

    return answer_batch(predict, waveform, lengths, size, crops)


def answer_batch(
    answer: Answer,
    waveform: Float[Tensor, "batch length channels"],
    lengths: Int[Tensor, " batch"],
    size: int | None,
    crops: int,
) -> Float[Tensor, "batch values"]:
    """Apply a function to recordings: whole, or take the mean over evenly spaced stretches.

    Args:
        answer: The function.
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        size: Samples of a stretch; None takes recordings whole.
        crops: Stretches of each recording.
    """
    if size is None:
        return answer(waveform, lengths)
    # a recording at a time where they are many, so that memory does not grow with their number
    pieces = even_crops(waveform, lengths, size, crops)
    outputs = [answer(part, None) for part in pieces.split(_CROPS_AT_ONCE)]
    return torch.cat(outputs).unflatten(0, (-1, crops)).mean(dim=1)


_CROPS_AT_ONCE = 128
