"""The arrays behind the figures of a test set: ROC, precision and recall, calibration, confusion.

Plain numpy on what `seqmamba.predictions` reads. The headline numbers of a run come from `seqmamba.metrics`;
areas computed here label single curves only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

WILSON_Z = 1.959963984540054  # 95 %
MAX_POINTS = 300
MAX_BAND_WORK = 4_000_000  # bootstrap replicates times items, which keeps a band under about a second


@dataclass(frozen=True)
class Curve:
    """A curve in the unit square.

    Attributes:
        x: False positive rate, or recall.
        y: True positive rate, or precision.
        area: Area under the curve; NaN when one of the two classes is absent.
    """

    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    area: float


@dataclass(frozen=True)
class Band:
    """Pointwise 95 % bootstrap limits of a curve.

    Attributes:
        x: Grid of false positive rates.
        low: 2.5th percentile of the true positive rate.
        high: 97.5th percentile.
    """

    x: Float[np.ndarray, " grid"]
    low: Float[np.ndarray, " grid"]
    high: Float[np.ndarray, " grid"]


@dataclass(frozen=True)
class Calibration:
    """Stated confidence against observed frequency, empty bins left out.

    Attributes:
        confidence: Mean stated probability per bin.
        frequency: Fraction that was right per bin.
        low: Lower 95 % Wilson limit of the frequency.
        high: Upper limit.
        count: Items per bin.
        edges: Bin edges, empty bins included.
    """

    confidence: Float[np.ndarray, " bins"]
    frequency: Float[np.ndarray, " bins"]
    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]
    edges: Float[np.ndarray, " edges"]


def roc(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> Curve:
    """Compute the receiver operating characteristic; tied scores make one point.

    Args:
        scores: Higher means more likely positive.
        positive: Which items are positive.

    Returns:
        True against false positive rate, at most `MAX_POINTS` points, with the exact area.
    """
    hits, false_alarms = _cumulative(scores, positive)
    if hits[-1] == 0 or false_alarms[-1] == 0:
        return Curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]), float("nan"))
    x, y = false_alarms / false_alarms[-1], hits / hits[-1]
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
    keep = _thin(x, y)
    return Curve(x[keep], y[keep], area)


def precision_recall(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> Curve:
    """Compute precision against recall; the area is average precision (a step function, no interpolation).

    Args:
        scores: Higher means more likely positive.
        positive: Which items are positive.

    Returns:
        Precision against recall, at most `MAX_POINTS` points, with the exact area.
    """
    hits, false_alarms = _cumulative(scores, positive)
    if hits[-1] == 0:
        return Curve(np.array([0.0, 1.0]), np.array([0.0, 0.0]), float("nan"))
    hits, false_alarms = hits[1:], false_alarms[1:]
    x, y = hits / hits[-1], hits / (hits + false_alarms)
    area = float(np.sum(np.diff(x, prepend=0.0) * y))
    x, y = np.concatenate([[0.0], x]), np.concatenate([y[:1], y])
    keep = _thin(x, y)
    return Curve(x[keep], y[keep], area)


def roc_band(
    scores: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    *,
    n_bootstrap: int = 400,
    seed: int = 0,
) -> Band | None:
    """Bootstrap the ROC curve over items.

    Args:
        scores: Higher means more likely positive.
        positive: Which items are positive.
        n_bootstrap: Replicates; fewer are drawn on very large sets to bound the time.
        seed: Seed of the resampling.

    Returns:
        Pointwise limits, or None when a class has fewer than two items.
    """
    if min(positive.sum(), (~positive).sum()) < 2:
        return None
    rng = np.random.default_rng(seed)
    replicates = max(50, min(n_bootstrap, MAX_BAND_WORK // len(scores)))
    order = np.argsort(-scores, kind="stable")
    last = _last_of_ties(scores[order])
    sorted_positive = positive[order]
    grid = np.linspace(0, 1, 101)
    rates = np.empty((replicates, len(grid)))
    for i in range(replicates):
        weight = np.bincount(rng.integers(len(scores), size=len(scores)), minlength=len(scores))
        hits = np.cumsum(weight * sorted_positive)[last]
        misses = np.cumsum(weight * ~sorted_positive)[last]
        x = np.concatenate([[0.0], misses / max(misses[-1], 1)])
        y = np.concatenate([[0.0], hits / max(hits[-1], 1)])
        rates[i] = np.interp(grid, x, y)
    low, high = np.percentile(rates, [2.5, 97.5], axis=0)
    return Band(grid, low, high)


def calibration(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], *, low: float = 0.0, bins: int = 10
) -> Calibration:
    """Compare stated probabilities with what happened, in bins of equal width (Guo et al. 2017, section 2).

    Args:
        confidence: Stated probabilities in [0, 1].
        right: Whether the statement held.
        low: Left edge of the first bin, for example 0.5 for the winning class of two.
        bins: Number of bins.

    Returns:
        Frequencies with 95 % Wilson limits (Wilson 1927) for the bins that are not empty.
    """
    edges = np.linspace(low, 1.0, bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = count > 0
    total = count[filled]
    mean = np.bincount(which, weights=confidence, minlength=bins)[filled] / total
    frequency = np.bincount(which, weights=right, minlength=bins)[filled] / total
    lower, upper = wilson(frequency, total)
    return Calibration(mean, frequency, lower, upper, total, edges)


def wilson(
    frequency: Float[np.ndarray, " n"], count: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the 95 % Wilson score interval of observed frequencies.

    Args:
        frequency: Fractions in [0, 1].
        count: Number of observations behind each, at least 1.

    Returns:
        Lower and upper limits.
    """
    z2 = WILSON_Z**2
    centre = (frequency + z2 / (2 * count)) / (1 + z2 / count)
    half = WILSON_Z / (1 + z2 / count) * np.sqrt(frequency * (1 - frequency) / count + z2 / (4 * count**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def confusion(
    labels: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], k: int
) -> Int[np.ndarray, "k k"]:
    """Count true class (rows) against predicted class (columns).

    Args:
        labels: True class indices.
        predicted: Predicted class indices.
        k: Number of classes.

    Returns:
        Counts.
    """
    return np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)


def _cumulative(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives above each distinct threshold, from none called to all called."""
    if not len(scores):
        return np.zeros(1), np.zeros(1)
    order = np.argsort(-scores, kind="stable")
    last = _last_of_ties(scores[order])
    hits = np.cumsum(positive[order])[last]
    false_alarms = np.cumsum(~positive[order])[last]
    return np.concatenate([[0.0], hits]), np.concatenate([[0.0], false_alarms])


def _last_of_ties(ordered: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))


def _thin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of at most `MAX_POINTS` points, evenly spaced along the curve's length, both ends kept."""
    if len(x) <= MAX_POINTS:
        return np.arange(len(x))
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    targets = np.linspace(0, travelled[-1], MAX_POINTS)
    chosen = np.unique(np.searchsorted(travelled, targets).clip(0, len(x) - 1))
    return np.union1d(chosen, [0, len(x) - 1])
