"""What the numbers mean, in sentences.

Two results are told apart only where their 95 % intervals do not overlap. That is stricter than a paired
test, and needs nothing but the two intervals that the reader can see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from seqmamba.metrics import LOWER_IS_BETTER, Estimate
from seqmamba.predictions import Predictions
from seqmamba.report.curves import wilson
from seqmamba.report.words import Wording, listed, metric_name, number, with_interval
from seqmamba.results import BaselineSummary

IMBALANCE = 0.65  # above this share of one class, accuracy flatters
FEW_ITEMS = 100
FEW_IN_CLASS = 20
POOR_CALIBRATION = 0.1
RELATIONS = {"better": "better than", "worse": "worse than", "same": "not distinguishable from"}


class Split(Protocol):
    """How the items of a run were divided."""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Part to class name to number of items."""


class Data(Protocol):
    """The items of a run."""

    @property
    def n(self) -> int:
        """Their number."""

    @property
    def per_class(self) -> dict[str, int]:
        """Class name to number of items; empty for regression."""


class Run(Protocol):
    """What a page reads of the results of a run, whatever the domain."""

    @property
    def task(self) -> str:
        """``classification``, ``multilabel``, ``regression``, or a domain's own, such as ``tagging``."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, or target names for regression."""

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Metric name to test estimate."""

    @property
    def baselines(self) -> dict[str, BaselineSummary]:
        """Simple models on the same split."""

    @property
    def split(self) -> Split:
        """How the items were divided."""

    @property
    def data(self) -> Data:
        """The items."""

    @property
    def notes(self) -> list[str]:
        """Sentences that the reader should know."""

    @property
    def created(self) -> str:
        """ISO 8601 date and time."""

    @property
    def command(self) -> str:
        """The command line."""

    @property
    def versions(self) -> dict[str, str]:
        """Package name to version."""

    @property
    def seed(self) -> int | None:
        """Random seed."""

    @property
    def hardware(self) -> str:
        """One line."""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training and test."""


@dataclass(frozen=True)
class Finding:
    """One thing the reader should know.

    Attributes:
        level: ``good``, ``info``, ``warn`` or ``bad``.
        headline: A short sentence.
        detail: Why, with the numbers.
    """

    level: str
    headline: str
    detail: str = ""


def primary_metric(results: Run) -> str | None:
    """Choose the metric that comparisons use: one that guessing the largest class cannot win.

    Args:
        results: A finished run.

    Returns:
        The name of a metric that the run has, or None when it has none.
    """
    preferred = {
        "classification": ("accuracy", "balanced_accuracy", "mcc"),
        "multilabel": ("auroc", "auprc", "f1"),
        "regression": ("pearson", "spearman", "r2"),
    }.get(results.task, ())
    if results.task == "classification" and _largest_share(results) > IMBALANCE:
        preferred = ("balanced_accuracy", "mcc", "accuracy")
    known = [name for name in preferred if name in results.metrics and _finite(results.metrics[name])]
    return known[0] if known else next(iter(results.metrics), None)


def chance_level(metric: str, results: Run) -> float | None:
    """Return what a model that does not look reaches, where that is one number.

    Args:
        metric: Metric name.
        results: A finished run.

    Returns:
        The level, or None where it is not defined.
    """
    if metric == "accuracy" and results.task == "classification":
        return _largest_share(results) or None
    if metric == "balanced_accuracy":
        return 0.5 if results.task == "multilabel" else 1 / len(results.classes)
    return {"auroc": 0.5, "mcc": 0.0, "pearson": 0.0, "spearman": 0.0, "r2": 0.0}.get(metric)


def compare(model: Estimate, other: Estimate, metric: str, n: int = 0) -> str:
    """Say how two estimates relate.

    Args:
        model: The model's estimate.
        other: The baseline's.
        metric: Metric name, which tells whether more is better.
        n: Size of the test set, where known; it widens intervals that the bootstrap cannot see.

    Returns:
        ``better``, ``worse`` or ``same``; ``same`` when the intervals overlap or one is missing.
    """
    if not all(math.isfinite(v) for v in (model.low, model.high, other.low, other.high)):
        return "same"
    model, other = _widened(model, metric, n), _widened(other, metric, n)
    above, below = model.low > other.high, model.high < other.low
    if metric in LOWER_IS_BETTER:
        above, below = below, above
    return "better" if above else "worse" if below else "same"


def tested_count(results: Run, test: Predictions | None) -> int:
    """Return how many items were tested; 0 where that is not known."""
    if test is not None:
        return len(test)
    if results.task != "classification":
        return 0
    return sum(results.split.counts.get("test", {}).values())


def outcomes(results: Run, metric: str, n: int) -> dict[str, str]:
    """Return how the model compares with each simple model that has the metric; see `compare`."""
    return {
        name: compare(results.metrics[metric], summary.metrics[metric], metric, n)
        for name, summary in results.baselines.items()
        if metric in summary.metrics
    }


def overall(results: Run, metric: str, n: int, wording: Wording) -> Finding:
    """Say in one sentence what the model is worth.

    Args:
        results: A finished run.
        metric: The metric to judge by, one that it has.
        n: Size of the test set, where known.
        wording: The domain's words.
    """
    value = results.metrics[metric]
    words = f"{metric_name(metric)} on the test set is {with_interval(value)}."
    chance = chance_level(metric, results)
    # Without an interval the value itself is compared.
    low = value.low if math.isfinite(value.low) else value.value
    if chance is not None and not low > chance:
        headline = "The model is not distinguishable from guessing."
        return Finding("bad", headline, f"{words} Guessing reaches {number(chance)}.")
    found = outcomes(results, metric, n)
    if not found:
        known = "The model is better than guessing." if chance is not None else "The model was tested."
        return Finding("info", known, f"{words} No baseline was trained beside it.")
    phrases = {
        relation: [wording.baseline(name).phrase for name, is_so in found.items() if is_so == relation]
        for relation in RELATIONS
    }
    better, same, worse = phrases["better"], phrases["same"], phrases["worse"]
    if worse:
        return Finding("bad", f"{capital(listed(worse))} beat{'s' * (len(worse) == 1)} the model.", words)
    if not same:
        return Finding("good", f"The model beats {listed(better)}.", words)
    start = f"The model beats {listed(better)}, but is" if better else "The model is"
    return Finding("info" if better else "warn", f"{start} not distinguishable from {listed(same)}.", words)


def against_baselines(results: Run, metric: str, n: int, wording: Wording) -> Finding | None:
    """List how the model compares with each simple model; see `overall` for the arguments."""
    model, found = results.metrics[metric], outcomes(results, metric, n)
    rows = [
        f"{RELATIONS[found[name]]} {words.phrase}, {with_interval(results.baselines[name].metrics[metric])}"
        for name, words in wording.baselines.items()
        if name in found
    ]
    if not rows:
        return None
    text = f"{metric_name(metric)} {with_interval(model)}: {'; '.join(rows)}."
    return Finding("info", "Against simple models on the same split", text)


def limits(results: Run, n: int, wording: Wording) -> list[Finding]:
    """Say what limits the numbers: a small test set, a flawless one, poor calibration, and the run's notes.

    Args:
        results: A finished run.
        n: Size of the test set, where known.
        wording: The domain's words.
    """
    found = [_size(results, n, wording.item), _flawless(results, n, wording.item), _calibration(results)]
    notes = [Finding("info", note) for note in results.notes]
    return [finding for finding in found if finding is not None] + notes


def capital(text: str) -> str:
    """Return a sentence that begins with a capital."""
    return text[:1].upper() + text[1:]


def _size(results: Run, total: int, item: str) -> Finding | None:
    if not total:
        return None
    counts = results.split.counts.get("test", {})
    rare = [name for name, n in counts.items() if n < FEW_IN_CLASS] if results.task != "regression" else []
    if total >= FEW_ITEMS and not rare:
        return None
    text = f"{total:,} {item}{'s' * (total != 1)} in all"
    if rare:
        text += f"; fewer than {FEW_IN_CLASS} of {listed(rare[:5])}" + (
            " and others" if len(rare) > 5 else ""
        )
    return Finding(
        "warn", "The test set is small.", f"{capital(text)}. Read the intervals, not the single numbers."
    )


def _calibration(results: Run) -> Finding | None:
    error = results.metrics.get("ece")
    if error is None or not error.low > POOR_CALIBRATION:
        return None
    return Finding(
        "warn",
        "The probabilities are not calibrated.",
        f"Stated and observed frequencies differ by {with_interval(error)} on average; use them to rank, not "
        "as odds.",
    )


def _flawless(results: Run, n: int, item: str) -> Finding | None:
    accuracy = results.metrics.get("accuracy")
    if results.task != "classification" or accuracy is None or accuracy.value < 1 or not n:
        return None
    low = _widened(accuracy, "accuracy", n).low
    text = f"A bootstrap cannot see beyond that; by Wilson's interval the accuracy is at least {number(low)}."
    return Finding("info", f"No error in {n:,} test {item}s.", text)


def _widened(estimate: Estimate, metric: str, n: int) -> Estimate:
    """Give an accuracy of 0 or 1, whose bootstrap interval has no width, its Wilson interval."""
    if metric not in ("accuracy", "balanced_accuracy") or not n or estimate.low < estimate.high:
        return estimate
    low, high = wilson(np.array([estimate.value]), np.array([n]))
    return Estimate(estimate.value, float(low[0]), float(high[0]))


def _largest_share(results: Run) -> float:
    counts: Mapping[str, int] = results.split.counts.get("test") or results.data.per_class
    total = sum(counts.values())
    return max(counts.values()) / total if total else 1 / max(len(results.classes), 1)


def _finite(estimate: Estimate) -> bool:
    return math.isfinite(estimate.value)
