"""Applying a trained classifier: to batches, and to files of any format, rate and length."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio.batch_augmentation import crops_of
from audio.models import RateMode, WaveformClassifier
from seqmamba.training.hardware import find_device
from seqmamba.training.run_folder import exported_model


def load_model(folder: str | Path, device: str | None = None) -> WaveformClassifier:
    """Load a run's exported model; only safetensors and JSON are read.

    Args:
        folder: A run folder, or the folder of an exported model.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None takes a GPU if there is one.

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
    if size is None:
        return model.predict(waveform, lengths, rate=rate, mode=mode)
    if rate is not None:
        size = max(1, round(size * rate / model.config.rate))
    # a recording at a time where they are many, so that memory does not grow with their number
    pieces = crops_of(waveform, lengths, size, crops)
    outputs = [model.predict(part, rate=rate, mode=mode) for part in pieces.split(max(1, _CROPS_AT_ONCE))]
    return torch.cat(outputs).unflatten(0, (-1, crops)).mean(dim=1)


_CROPS_AT_ONCE = 128
