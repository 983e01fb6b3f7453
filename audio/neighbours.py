"""Are generated recordings new: how near each is to the recordings that its model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio.copies import copy_groups
from audio.files import describe
from audio.loading import load
from audio.manifests import Clip

COPY = 0.95
"""Correlation of waveforms from which a recording counts as a copy: codecs and shifts leave more, a second
recording of the same word by the same speaker less."""

_LOOK_SECONDS = 30.0  # of a recording, that are compared with its neighbour
_ROWS = 1024  # of a distance matrix, held at once


@dataclass(frozen=True)
class Neighbours:
    """The nearest training recording of each generated one.

    Attributes:
        index: Its place among the training recordings.
        distance: Euclidean distance of their features.
        correlation: Largest correlation of their waveforms at any shift, from 0 to 1; 0 where one is silent.
        identical: Whether some training recording has the same samples.
        repeated: Whether an earlier recording of the set has the same samples.
    """

    index: Int[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    correlation: Float[np.ndarray, " n"]
    identical: Bool[np.ndarray, " n"]
    repeated: Bool[np.ndarray, " n"]

    @property
    def copied(self) -> Bool[np.ndarray, " n"]:
        """Which are copies of a training recording, of the same samples or almost."""
        return self.identical | (self.correlation >= COPY)


def find_neighbours(
    clips: Sequence[Clip],
    features: Float[np.ndarray, "n dim"],
    training: Sequence[Clip],
    training_features: Float[np.ndarray, "m dim"],
    rate: int,
) -> Neighbours:
    """Find the nearest training recordings by their features, and compare the waveforms.

    Args:
        clips: Recordings.
        features: Theirs.
        training: Training recordings.
        training_features: Theirs.
        rate: Sampling rate in Hz at which waveforms are compared.

    Raises:
        UserError: If a recording cannot be read.
    """
    index, distance = nearest(features, training_features)
    pairs = zip(clips, (training[place] for place in index), strict=True)
    correlation = np.array([_similarity(clip, near, rate) for clip, near in pairs])
    everything = [*training, *clips]
    numbers = copy_groups(everything, [describe(clip.path) for clip in everything])
    known, made = np.split(numbers, [len(training)])
    first = np.unique(made, return_index=True)[1]
    repeated = np.ones(len(made), dtype=bool)
    repeated[first] = False
    return Neighbours(index, distance, correlation, np.isin(made, known), repeated)


def nearest(
    features: Float[np.ndarray, "n dim"], others: Float[np.ndarray, "m dim"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return which of other rows is nearest to each row, and how far it is.

    Args:
        features: Rows.
        others: Other rows.
    """
    targets = torch.from_numpy(np.asarray(others, dtype=np.float64))
    index, distance = [], []
    for part in torch.from_numpy(np.asarray(features, dtype=np.float64)).split(_ROWS):
        # no shortcut by products: it rounds the distance of equal rows
        found = torch.cdist(part, targets, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        index.append(found.indices.numpy())
        distance.append(found.values.numpy())
    return np.concatenate(index), np.concatenate(distance)


def apart(features: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, " n"]:
    """Return how far the nearest other row is from each row.

    Args:
        features: Two rows or more.
    """
    rows = torch.from_numpy(np.asarray(features, dtype=np.float64))
    distance = []
    for start in range(0, len(rows), _ROWS):
        found = torch.cdist(rows[start : start + _ROWS], rows, compute_mode="donot_use_mm_for_euclid_dist")
        found[torch.arange(len(found)), start + torch.arange(len(found))] = torch.inf
        distance.append(found.min(dim=1).values.numpy())
    return np.concatenate(distance)


def correlation(first: Float[Tensor, " length"], second: Float[Tensor, " other_length"]) -> float:
    """Return the largest absolute correlation of two waveforms over all shifts of one against the other.

    Args:
        first: A waveform.
        second: Another.

    Returns:
        From 0 to 1; 0 where one is silent.
    """
    size = len(first) + len(second)
    a, b = first.double(), second.double()
    energy = float(a.norm() * b.norm())
    if energy == 0:
        return 0.0
    spectrum = torch.fft.rfft(a, size) * torch.fft.rfft(b, size).conj()
    return min(1.0, float(torch.fft.irfft(spectrum, size).abs().max()) / energy)


def _similarity(clip: Clip, other: Clip, rate: int) -> float:
    waveforms = [
        load(
            each.path,
            rate,
            1,
            start=each.start_seconds,
            seconds=min(_LOOK_SECONDS, each.duration_seconds or _LOOK_SECONDS),
        )[:, 0]
        for each in (clip, other)
    ]
    return correlation(*waveforms)
