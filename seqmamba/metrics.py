"""Test metrics with bootstrap intervals.

Definitions follow torchmetrics (a test compares them); they are written here for many resamples at once. A
resample is a row of weights, how often it drew each sequence, so that one formula gives the value (all
weights one) and its bootstrap distribution. A number that does not exist, such as the AUROC of a test set
with one class, is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from seqmamba.errors import UserError

METRICS = {
    "classification": ("accuracy", "balanced_accuracy", "mcc", "f1", "auroc", "auprc", "ece"),
    "multilabel": ("accuracy", "balanced_accuracy", "mcc", "f1", "auroc", "auprc", "ece"),
    "regression": ("pearson", "spearman", "r2", "mse", "mae"),
}
"""Names of the metrics of each task, in the order to show them."""

LOWER_IS_BETTER = frozenset({"ece", "mse", "mae"})

_CALIBRATION_BINS = 15
_CHUNK = 2_000_000  # weights held at a time

Weights = Float[np.ndarray, "resamples n"]
PerResample = Float[np.ndarray, " resamples"]


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % bootstrap percentile interval; NaN where it does not exist."""

    value: float
    low: float
    high: float


def evaluate(
    probabilities: Float[np.ndarray, "n k"],
    labels: np.ndarray,
    task: str,
    classes: Sequence[str],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute the metrics of a task, each with the interval that resampling the sequences gives (Efron 1979).

    Two classes: F1, AUROC, AUPRC and ECE are those of the second class. More classes: F1, AUROC and AUPRC are
    unweighted means over classes (one against the rest), ECE is that of the likeliest class. Multi-label:
    every metric is the mean over labels, each decided at 0.5. Regression: the mean over targets.

    Args:
        probabilities: Class probabilities (rows sum to one), label probabilities, or predicted targets.
        labels: Class numbers (n,), or 0/1 labels (n, k), or targets (n, k).
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Names of the columns.
        n_bootstrap: Number of resamples; 0 gives NaN intervals.
        seed: Seed of the resampling; equal seeds resample equally, so that runs on one test set can be
            paired.

    Returns:
        The metrics of `METRICS` for the task, in that order.

    Raises:
        UserError: If shapes disagree, there is no sequence, or a number is not finite or not a probability.
    """
    predictions, targets = _checked(probabilities, labels, task, classes)
    value = {
        name: float(row[0])
        for name, row in _metrics(np.ones((1, len(targets))), predictions, targets, task).items()
    }
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in value}
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(targets))
    for start in range(0, n_bootstrap, step):
        weights = draw_resamples(rng, min(step, n_bootstrap - start), len(targets))
        for name, row in _metrics(weights, predictions, targets, task).items():
            drawn[name].append(row)
    return {name: Estimate(value[name], *percentile_interval(drawn[name])) for name in METRICS[task]}


def evaluate_resamples(
    weights: Weights,
    probabilities: Float[np.ndarray, "n k"],
    labels: np.ndarray,
    task: str,
    classes: Sequence[str],
) -> dict[str, PerResample]:
    """Compute the metrics of a task on each of several resamples, such as `draw_resamples` draws.

    Args:
        weights: How often each sequence is in each resample.
        probabilities: As for `evaluate`.
        labels: As for `evaluate`.
        task: As for `evaluate`.
        classes: As for `evaluate`.

    Raises:
        UserError: As `evaluate` does.
    """
    predictions, targets = _checked(probabilities, labels, task, classes)
    return _metrics(weights, predictions, targets, task)


def draw_resamples(rng: np.random.Generator, resamples: int, n: int) -> Weights:
    """Draw how often each of n units is in each resample of as many (Efron 1979)."""
    weights = np.empty((resamples, n))
    for row in weights:
        row[:] = np.bincount(rng.integers(0, n, size=n), minlength=n)
    return weights


def percentile_interval(rows: list[np.ndarray]) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of a metric over resamples; NaN without any."""
    values = np.concatenate(rows) if rows else np.empty(0)
    # Resamples in which the metric does not exist say nothing about it.
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _checked(
    probabilities: np.ndarray, labels: np.ndarray, task: str, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    if task not in METRICS:
        raise UserError(f"task: expected one of {', '.join(METRICS)}, got {task!r}")
    predictions = np.asarray(probabilities, dtype=np.float64)
    targets = np.asarray(labels)
    if predictions.ndim != 2 or predictions.shape[1] != len(classes):
        raise UserError(f"probabilities: expected shape (n, {len(classes)}), got {predictions.shape}")
    expected = (len(predictions),) if task == "classification" else predictions.shape
    if targets.shape != expected:
        raise UserError(f"labels: expected shape {expected}, got {targets.shape}")
    if len(predictions) == 0:
        raise UserError("metrics: expected at least one sequence, got none")
    broken = np.flatnonzero(~np.isfinite(predictions).all(1))
    if len(broken):
        raise UserError(
            f"probabilities: {len(broken):,} of {len(predictions):,} rows are not finite (row {broken[0]})",
            hint="the model has diverged; lower the learning rate",
        )
    if task == "regression":
        if not np.isfinite(targets).all():
            raise UserError("labels: expected finite targets")
        return predictions, targets.astype(np.float64)
    if predictions.min() < -1e-6 or predictions.max() > 1 + 1e-6:
        raise UserError(
            "probabilities: expected numbers between 0 and 1", hint="apply softmax or sigmoid first"
        )
    if task == "classification":
        if len(classes) < 2:
            raise UserError(f"classes: expected at least two, got {len(classes)}")
        if targets.min() < 0 or targets.max() >= len(classes):
            raise UserError(f"labels: expected class numbers from 0 to {len(classes) - 1}")
        if np.abs(predictions.sum(1) - 1).max() > 1e-2:
            raise UserError("probabilities: expected rows that sum to one", hint="apply softmax first")
        targets = targets.astype(np.int64)
    return predictions, targets


def _metrics(
    weights: Weights, predictions: np.ndarray, targets: np.ndarray, task: str
) -> dict[str, PerResample]:
    if task == "classification":
        if predictions.shape[1] == 2:
            return _binary(weights, predictions[:, 1], predictions.argmax(1), targets)
        return _multiclass(weights, predictions, targets)
    columns = range(predictions.shape[1])
    if task == "multilabel":
        each = [
            _binary(weights, predictions[:, c], predictions[:, c] > 0.5, targets[:, c] > 0.5) for c in columns
        ]
    else:
        each = [_regression(weights, predictions[:, c], targets[:, c]) for c in columns]
    return {name: _mean(np.stack([one[name] for one in each])) for name in each[0]}


def _binary(
    weights: Weights, scores: Float[np.ndarray, " n"], decided: np.ndarray, positive: np.ndarray
) -> dict[str, PerResample]:
    truth = np.asarray(positive, dtype=np.int64)
    confusion = _confusion(weights, truth, np.asarray(decided, dtype=np.int64), 2)
    curves = _rank_metrics(weights, scores, truth == 1)
    f1 = f1_scores(confusion)[:, 1]
    return {
        **confusion_metrics(confusion),
        # As torchmetrics: no positive, found or missed, gives 0.
        "f1": np.nan_to_num(f1),
        "auroc": curves[0],
        "auprc": curves[1],
        "ece": _calibration_error(weights, scores, truth == 1),
    }


def _multiclass(
    weights: Weights, predictions: np.ndarray, truth: Int[np.ndarray, " n"]
) -> dict[str, PerResample]:
    k = predictions.shape[1]
    decided = predictions.argmax(1)
    confusion = _confusion(weights, truth, decided, k)
    curves = np.array([_rank_metrics(weights, predictions[:, c], truth == c) for c in range(k)])
    return {
        **confusion_metrics(confusion),
        "f1": _mean(f1_scores(confusion).T),
        "auroc": _mean(curves[:, 0]),
        "auprc": _mean(curves[:, 1]),
        "ece": _calibration_error(weights, predictions.max(1), decided == truth),
    }


def _confusion(
    weights: Weights, truth: Int[np.ndarray, " n"], decided: Int[np.ndarray, " n"], k: int
) -> Float[np.ndarray, "resamples k k"]:
    """Count (truth, decision) pairs in each resample."""
    cells = truth * k + decided
    return np.stack([np.bincount(cells, row, minlength=k * k) for row in weights]).reshape(-1, k, k)


def confusion_metrics(confusion: Float[np.ndarray, "resamples k k"]) -> dict[str, PerResample]:
    """Compute accuracy, balanced accuracy and MCC of tables of (truth, decision) counts."""
    total = confusion.sum((1, 2))
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    true, decided = confusion.sum(2), confusion.sum(1)
    # Gorodkin 2004, equation 8. Deciding always the same is worth 0; one class alone has no correlation.
    covariance = hits.sum(1) * total - (true * decided).sum(1)
    spread_true, spread_decided = total**2 - (true**2).sum(1), total**2 - (decided**2).sum(1)
    mcc = np.where(spread_decided > 0, _ratio(covariance, np.sqrt(spread_true * spread_decided)), 0.0)
    return {
        "accuracy": hits.sum(1) / total,
        "balanced_accuracy": _mean(_ratio(hits, true).T),
        "mcc": np.where(spread_true > 0, mcc, np.nan),
    }


def f1_scores(confusion: Float[np.ndarray, "resamples k k"]) -> Float[np.ndarray, "resamples k"]:
    """Compute the F1 of every class; NaN of one that is neither there nor decided."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return _ratio(2 * hits, confusion.sum(1) + confusion.sum(2))


def _rank_metrics(
    weights: Weights, scores: Float[np.ndarray, " n"], positive: np.ndarray
) -> tuple[PerResample, PerResample]:
    """Return the area under the ROC curve, ties counting half, and the average precision."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    drawn, is_positive = weights[:, order], positive[order]
    positives = np.add.reduceat(drawn * is_positive, starts, axis=1)
    negatives = np.add.reduceat(drawn * ~is_positive, starts, axis=1)
    true, false = np.cumsum(positives, axis=1), np.cumsum(negatives, axis=1)
    n_positive, n_negative = true[:, -1], false[:, -1]
    # Each positive beats the negatives ranked below it and half of those tied with it.
    beaten = (positives * (n_negative[:, None] - false + negatives / 2)).sum(1)
    precision = np.nan_to_num(_ratio(true, true + false))
    return _ratio(beaten, n_positive * n_negative), _ratio((positives * precision).sum(1), n_positive)


def _calibration_error(
    weights: Weights, confidence: Float[np.ndarray, " n"], right: np.ndarray
) -> PerResample:
    """Return the expected calibration error over equal bins of confidence (Guo et al. 2017, equation 3)."""
    edges = np.linspace(0, 1, _CALIBRATION_BINS + 1)
    bins = np.searchsorted(edges, np.clip(confidence, 0, 1), side="right") - 1
    # In a bin of weight w, w * |accuracy - confidence| is the absolute sum of the differences.
    gaps = np.stack([np.bincount(bins, row * (right - confidence)) for row in weights])
    return np.abs(gaps).sum(1) / weights.sum(1)


def _regression(
    weights: Weights, predictions: Float[np.ndarray, " n"], targets: Float[np.ndarray, " n"]
) -> dict[str, PerResample]:
    total = weights.sum(1)
    squared = weights @ (predictions - targets) ** 2
    mean = weights @ targets / total
    spread = (weights * (targets - mean[:, None]) ** 2).sum(1)
    return {
        "pearson": _pearson(
            weights,
            np.broadcast_to(predictions, weights.shape),
            np.broadcast_to(targets, weights.shape),
        ),
        "spearman": _pearson(weights, _ranks(weights, predictions), _ranks(weights, targets)),
        "r2": 1 - _ratio(squared, spread),
        "mse": squared / total,
        "mae": weights @ np.abs(predictions - targets) / total,
    }


def _pearson(weights: Weights, x: np.ndarray, y: np.ndarray) -> PerResample:
    total = weights.sum(1)
    dx = x - ((weights * x).sum(1) / total)[:, None]
    dy = y - ((weights * y).sum(1) / total)[:, None]
    variances = (weights * dx**2).sum(1) * (weights * dy**2).sum(1)
    # What is left of a constant after rounding is not a spread.
    smallest = 1e-24 * ((x**2).max() * (y**2).max() * total**2)
    return np.where(variances > smallest, _ratio((weights * dx * dy).sum(1), np.sqrt(variances)), np.nan)


def _ranks(weights: Weights, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, "resamples n"]:
    """Return the rank of each value among those drawn, ties sharing their mean rank."""
    group = np.unique(values, return_inverse=True)[1]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    drawn = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(drawn, axis=1) - (drawn - 1) / 2)[:, group]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is zero."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _mean(rows: Float[np.ndarray, "rows resamples"]) -> PerResample:
    """Average over the first axis, leaving out what does not exist."""
    present = ~np.isnan(rows)
    return _ratio(np.where(present, rows, 0.0).sum(0), present.sum(0))
