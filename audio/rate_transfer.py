"""What a model says at sampling rates that it was not trained at, without training it again.

The test recordings are brought to the other rate in two ways: ``decimated``, every n-th sample as in the
published tables of state spaces (Gu et al. 2022, arXiv:2111.00396, table 5), which folds high frequencies
down; and ``filtered``, as a recorder or a resampler would do it. The model meets them in several ways:

- ``unaware``: as if nothing had changed;
- ``frames``: the stem's kernels and strides are those of the training in time;
- ``steps``: the kernels only; frames last longer, and the state spaces scale their steps;
- ``resampled``: the recordings are brought back to the training's rate, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio.batches import LabelledWaveforms, WaveformBatch
from audio.inference import predict_batch
from audio.models import RateMode, WaveformClassifier
from audio.resampling import decimate, resample
from audio.stems import StridedStem, frames_of
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, evaluate

_MODES: dict[str, RateMode] = {"unaware": "ignore", "frames": "frames", "steps": "steps"}
_RESAMPLED = "resampled"


def evaluate_rates(
    model: WaveformClassifier,
    data: LabelledWaveforms,
    rates: Sequence[int],
    *,
    crops: int,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """Test a model at other sampling rates.

    Args:
        model: The model.
        data: A data module at the training's rate, set up.
        rates: Sampling rates in Hz.
        crops: Stretches of each recording whose predictions are averaged.
        n_bootstrap: See `seqmamba.metrics.evaluate`.
        seed: See `seqmamba.metrics.evaluate`.

    Returns:
        ``"8000 Hz, decimated, frames"`` and the like -> metrics with their intervals.

    Raises:
        UserError: If a mixer of the model cannot run at another rate.
    """
    found: dict[str, dict[str, Estimate]] = {}
    for rate in rates:
        for how, lowered in _ways_down(model.config.rate, rate):
            for mode in (*_modes(model, rate), _RESAMPLED):
                outputs, labels = _predict(model, data, rate, lowered, mode, crops)
                found[f"{rate} Hz, {how}, {mode}"] = evaluate(
                    outputs, labels, data.task, data.classes, n_bootstrap=n_bootstrap, seed=seed
                )
    return found


def evaluate_rate(
    model: WaveformClassifier,
    data: LabelledWaveforms,
    *,
    crops: int,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Test a model at the training's own rate; see `evaluate_rates`."""
    outputs, labels = _predict(model, data, model.config.rate, lambda x: x, "frames", crops)
    return evaluate(outputs, labels, data.task, data.classes, n_bootstrap=n_bootstrap, seed=seed)


def _ways_down(trained: int, rate: int) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Yield the ways of bringing (batch, length, channels) to a rate."""
    step, left = divmod(trained, rate)
    if left == 0 and step > 1:
        yield "decimated", lambda x: decimate(x, trained, rate)
    yield "filtered", lambda x: resample(x, trained, rate)


def _modes(model: WaveformClassifier, rate: int) -> list[str]:
    """Return the ways that the model has of meeting another rate."""
    strided = isinstance(model.stem, StridedStem)
    return [name for name in _MODES if name != "steps" or strided]


@torch.no_grad()
def _predict(
    model: WaveformClassifier,
    data: Any,
    rate: int,
    lowered: Callable[[Tensor], Tensor],
    mode: str,
    crops: int,
) -> tuple[np.ndarray, np.ndarray]:
    device = next(model.parameters()).device
    outputs, labels = [], []
    batch: WaveformBatch
    for batch in data.test_dataloader():
        waveform = lowered(batch.waveform.to(device))
        lengths = frames_of(batch.lengths.to(device) * rate, model.config.rate)
        given = rate
        if mode == _RESAMPLED:
            given, waveform = model.config.rate, resample(waveform, rate, model.config.rate)
            lengths = batch.lengths.to(device)
        way = _MODES.get(mode, "frames")
        found = predict_batch(model, waveform, lengths, crops, rate=given, mode=way)
        outputs.append(found.double().cpu().numpy())
        labels.append(batch.target.cpu().numpy())
    if not outputs:
        raise UserError("rates: the data have no test part")
    return np.concatenate(outputs), np.concatenate(labels)
