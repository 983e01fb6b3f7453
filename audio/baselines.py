"""A simple model on the same split: a number means little until it is known what a simple model gets.

Log-mel energies of a recording are summed up by their mean, deviation and maximum over time and by the mean
size of their steps, and a logistic (or ridge) regression reads these.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio.batches import LabelledWaveforms, WaveformBatch
from audio.spectrograms import LogMel, SpectrogramConfig
from seqmamba.linear import fit_linear
from seqmamba.metrics import evaluate
from seqmamba.nn.packing import length_mask
from seqmamba.results import BaselineSummary

MELS = 64
_HELD_OUT = 5  # one in so many, where there is no validation part to choose the penalty by


def log_mel_statistics(
    waveform: Float[Tensor, "batch length channels"], lengths: Int[Tensor, " batch"], spectrogram: LogMel
) -> Float[Tensor, "batch features"]:
    """Return the statistics over time of each recording's log-mel energies.

    Args:
        waveform: Samples, padded on the right.
        lengths: True lengths in samples.
        spectrogram: The log-mel spectrogram.
    """
    x, rows, _ = spectrogram(waveform, lengths)
    assert rows is not None
    mask = length_mask(rows, x.shape[1])[..., None]
    count = rows[:, None]
    mean = (x * mask).sum(dim=1) / count
    spread = (((x - mean[:, None]) * mask).square().sum(dim=1) / count).sqrt()
    highest = x.masked_fill(~mask, -torch.inf).amax(dim=1)
    steps = ((x[:, 1:] - x[:, :-1]).abs() * mask[:, 1:]).sum(dim=1) / (count - 1).clamp(min=1)
    return torch.cat((mean, spread, highest, steps), dim=1)


def log_mel_baseline(data: LabelledWaveforms, *, n_bootstrap: int = 1000, seed: int = 0) -> BaselineSummary:
    """Train and test the regression on a data module's split.

    Args:
        data: The data module, set up.
        n_bootstrap: See `seqmamba.metrics.evaluate`.
        seed: See `seqmamba.metrics.evaluate`; it also draws what chooses the penalty if need be.
    """
    started = time.monotonic()
    features = _all_features(data)
    train, validation, test = (np.flatnonzero(data.assignment == p) for p in ("train", "validation", "test"))
    if not len(validation):
        mixed = np.random.default_rng(seed).permutation(train)
        count = max(1, len(mixed) // _HELD_OUT)
        validation, train = mixed[:count], mixed[count:]
    labels = torch.from_numpy(np.asarray(data.labels))
    centre, scale = torch.zeros(()), torch.ones(())
    kind: Any = "multilabel" if data.task == "tagging" else data.task
    if kind == "regression":
        centre, scale = labels[train].mean(dim=0), labels[train].std(dim=0, correction=0).clamp_min(1e-12)
        labels = (labels - centre) / scale
    model = fit_linear(
        features[train],
        labels[train],
        (features[validation], labels[validation]),
        kind,
        len(data.classes),
    )
    logits = model(features[test])
    outputs = {"classification": lambda: logits.softmax(dim=1), "multilabel": logits.sigmoid}.get(
        kind, lambda: logits * scale + centre
    )()
    truth = np.asarray(data.labels)[test]
    metrics = evaluate(outputs.numpy(), truth, data.task, data.classes, n_bootstrap=n_bootstrap, seed=seed)
    return BaselineSummary(metrics, time.monotonic() - started)


@torch.no_grad()
def _all_features(data: Any) -> Tensor:
    """Return the statistics of all recordings, in the order of the data module's list."""
    spectrogram = LogMel(SpectrogramConfig(mels=MELS), data.rate)
    features = torch.zeros(len(data.names), 4 * MELS)
    batch: WaveformBatch
    for batch in data.predict_dataloader():
        spectrogram = spectrogram.to(batch.waveform.device)
        found = log_mel_statistics(batch.waveform, batch.lengths, spectrogram)
        features[batch.index.cpu()] = found.cpu()
    return features
