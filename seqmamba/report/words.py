"""Numbers and metric names as a reader wants to see them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seqmamba.metrics import Estimate

MODEL_NAME = "This model"


@dataclass(frozen=True)
class BaselineWords:
    """A simple model in words.

    Attributes:
        name: As in a table.
        phrase: As in a sentence.
    """

    name: str
    phrase: str


@dataclass(frozen=True)
class Wording:
    """What a domain calls its things.

    Attributes:
        kicker: The line above the title of a page.
        item: What is classified, in the singular.
        baselines: Key to words, in the order in which they are shown.
    """

    kicker: str
    item: str
    baselines: Mapping[str, BaselineWords]

    def baseline(self, key: str) -> BaselineWords:
        """Return the words for a simple model, its key where it has none."""
        return self.baselines.get(key, BaselineWords(key, key))


@dataclass(frozen=True)
class MetricWords:
    """A metric in words.

    Attributes:
        name: Short title.
        meaning: One line for readers who do not know it.
    """

    name: str
    meaning: str


METRIC_WORDS = {
    "accuracy": MetricWords("Accuracy", "share of right answers"),
    "balanced_accuracy": MetricWords("Balanced accuracy", "mean share of right answers per class"),
    "mcc": MetricWords("MCC", "Matthews correlation: 0 is guessing, 1 is perfect"),
    "f1": MetricWords("F1", "harmonic mean of precision and recall"),
    "auroc": MetricWords("AUROC", "chance that a positive outranks a negative"),
    "auprc": MetricWords("AUPRC", "average precision over all recalls"),
    "ece": MetricWords("Calibration error", "gap between stated and real certainty (ECE); lower is better"),
    "frame_f1": MetricWords("F1 of frames", "harmonic mean of precision and recall over time"),
    "event_f1": MetricWords("F1 of events", "harmonic mean of precision and recall of whole events"),
    "pearson": MetricWords("Pearson r", "linear correlation with the truth"),
    "spearman": MetricWords("Spearman ρ", "rank correlation with the truth"),
    "r2": MetricWords("R²", "share of the variance explained"),
    "mse": MetricWords("MSE", "mean squared error; lower is better"),
    "mae": MetricWords("MAE", "mean absolute error; lower is better"),
}


def metric_name(key: str) -> str:
    """Return the title of a metric, its key where it has none."""
    return METRIC_WORDS[key].name if key in METRIC_WORDS else key


def number(value: float, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals; three digits where huge or tiny, a dash for NaN."""
    if not math.isfinite(value):
        return "–"
    if value != 0 and (abs(value) >= 1e4 or abs(value) < 10**-digits):
        return f"{value:.3g}"
    return f"{value:.{digits}f}".replace("-", "−")


def interval(estimate: Estimate) -> str:
    """Write the 95 % interval of an estimate."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "no interval"
    return f"{number(estimate.low)} to {number(estimate.high)}"


def with_interval(estimate: Estimate) -> str:
    """Write an estimate and its 95 % interval."""
    return f"{number(estimate.value)} ({interval(estimate)})"


def duration(seconds: float) -> str:
    """Write a time span in the two largest units that fit."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(n: float, noun: str) -> str:
    """Write a number of things: ``1 sequence``, ``1,200 sequences``."""
    return f"{n:,.0f} {noun}" if n == 1 else f"{n:,.0f} {noun}s"


def listed(names: list[str]) -> str:
    """Join names as in a sentence: ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
