"""What the numbers mean, in sentences.

Two results are told apart only where their 95 % intervals do not overlap. That is stricter than a paired
test, and needs nothing but the two intervals that the reader can see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from genomics.curves import wilson
from genomics.report.words import BASELINE_NAMES, listed, metric_name, number, with_interval
from genomics.results import Results
from seqmamba.metrics import LOWER_IS_BETTER, Estimate
from seqmamba.predictions import Predictions

IMBALANCE = 0.65  # above this share of one class, accuracy flatters
SHORTCUT = 0.15  # length and GC alone this far above guessing is worth a warning
FEW_SEQUENCES = 100
FEW_IN_CLASS = 20
POOR_CALIBRATION = 0.1
RELATIONS = {"better": "better than", "worse": "worse than", "same": "not distinguishable from"}
WORDS = {"length_gc": "length and GC content alone", "kmer": "a k-mer model", "cnn": "a small CNN"}


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


def primary_metric(results: Results) -> str | None:
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
    }[results.task]
    if results.task == "classification" and _largest_share(results) > IMBALANCE:
        preferred = ("balanced_accuracy", "mcc", "accuracy")
    known = [name for name in preferred if name in results.metrics and _finite(results.metrics[name])]
    return known[0] if known else next(iter(results.metrics), None)


def chance_level(metric: str, results: Results) -> float | None:
    """Return what a model that ignores the sequence reaches, where that is one number.

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


def judge(results: Results, test: Predictions | None = None) -> list[Finding]:
    """Read a run's numbers.

    Args:
        results: A finished run.
        test: Its predictions on the test part, to judge how many there are.

    Returns:
        Findings; the first is the verdict, the others say what limits it.
    """
    metric = primary_metric(results)
    if metric is None:
        return [Finding("info", "No test results yet.", "Run `seqmamba test` to fill this page.")]
    n = sum(results.split.counts.get("test", {}).values()) if results.task == "classification" else 0
    n = n if test is None else len(test)
    findings = [_leaks(results), _baselines(results, metric, n), _shortcut(results, metric)]
    findings += [_size(results, n), _flawless(results, n), _calibration(results)]
    findings += [Finding("info", note) for note in results.notes]
    others = [finding for finding in findings if finding is not None]
    return [_overall(results, metric, n), *others]


def _overall(results: Results, metric: str, n: int) -> Finding:
    value = results.metrics[metric]
    words = f"{metric_name(metric)} on the test set is {with_interval(value)}."
    if results.leaks and results.leaks.get("serious", not results.leaks.get("ok", True)):
        return Finding(
            "bad", "Do not trust these numbers yet: the test set leaks into the training set.", words
        )
    chance = chance_level(metric, results)
    if chance is not None and not value.low > chance:
        return Finding(
            "bad",
            "The model is not distinguishable from guessing.",
            f"{words} Guessing reaches {number(chance)}.",
        )
    outcome = {
        name: compare(value, summary.metrics[metric], metric, n)
        for name, summary in results.baselines.items()
        if metric in summary.metrics
    }
    if not outcome:
        return Finding(
            "info", "The model is better than guessing.", f"{words} No baseline was trained beside it."
        )
    worse = [WORDS.get(name, name) for name, result in outcome.items() if result == "worse"]
    if worse:
        return Finding("bad", f"{_capital(listed(worse))} beat{'s' * (len(worse) == 1)} the model.", words)
    same = [WORDS.get(name, name) for name, result in outcome.items() if result == "same"]
    better = [WORDS.get(name, name) for name, result in outcome.items() if result == "better"]
    if not same:
        return Finding("good", f"The model beats {listed(better)}.", words)
    if "length_gc" in outcome and outcome["length_gc"] == "same":
        return Finding("bad", "Length and GC content alone do as well as the model.", words)
    start = f"The model beats {listed(better)}, but is" if better else "The model is"
    return Finding("info" if better else "warn", f"{start} not distinguishable from {listed(same)}.", words)


def _leaks(results: Results) -> Finding | None:
    leaks = results.leaks
    if not leaks:
        return Finding("warn", "No leak check ran.", "Test sequences may have copies in the training set.")
    summary = str(leaks.get("summary", ""))
    if leaks.get("ok", True):
        return Finding("good", "No leak found between the parts.", _after_colon(summary))
    level = "bad" if leaks.get("serious", True) else "warn"  # a few copies in thousands move no metric
    return Finding(level, "The parts share sequences.", _after_colon(summary))


def _baselines(results: Results, metric: str, n: int) -> Finding | None:
    model = results.metrics[metric]
    rows = []
    for name in BASELINE_NAMES:
        if name in results.baselines and metric in results.baselines[name].metrics:
            other = results.baselines[name].metrics[metric]
            relation = RELATIONS[compare(model, other, metric, n)]
            rows.append(f"{relation} {WORDS[name]}, {with_interval(other)}")
    if not rows:
        return None
    text = f"{metric_name(metric)} {with_interval(model)}: {'; '.join(rows)}."
    return Finding("info", "Against simple models on the same split", text)


def _shortcut(results: Results, metric: str) -> Finding | None:
    summary, chance = results.baselines.get("length_gc"), chance_level(metric, results)
    if summary is None or chance is None or metric not in summary.metrics:
        return None
    simple = summary.metrics[metric]
    if not simple.low > chance + SHORTCUT:
        return None
    headline = "Length or GC content predict the answer."
    text = (
        f"Those two numbers alone reach a {metric_name(metric)} of {with_interval(simple)}, where guessing "
        f"gives {number(chance)}. Part of the model's score may be this shortcut."
    )
    if results.task == "classification":
        text += " Classes matched in length and GC content would remove it."
    return Finding("warn", headline, text)


def _size(results: Results, total: int) -> Finding | None:
    if not total:
        return None
    counts = results.split.counts.get("test", {})
    rare = [name for name, n in counts.items() if n < FEW_IN_CLASS] if results.task != "regression" else []
    if total >= FEW_SEQUENCES and not rare:
        return None
    text = f"{total:,} sequence{'s' * (total != 1)} in all"
    if rare:
        text += f"; fewer than {FEW_IN_CLASS} of {listed(rare[:5])}" + (
            " and others" if len(rare) > 5 else ""
        )
    return Finding(
        "warn", "The test set is small.", f"{_capital(text)}. Read the intervals, not the single numbers."
    )


def _calibration(results: Results) -> Finding | None:
    error = results.metrics.get("ece")
    if error is None or not error.low > POOR_CALIBRATION:
        return None
    return Finding(
        "warn",
        "The probabilities are not calibrated.",
        f"Stated and observed frequencies differ by {with_interval(error)} on average; use them to rank, not "
        "as odds.",
    )


def _flawless(results: Results, n: int) -> Finding | None:
    accuracy = results.metrics.get("accuracy")
    if results.task != "classification" or accuracy is None or accuracy.value < 1 or not n:
        return None
    low = _widened(accuracy, "accuracy", n).low
    text = f"A bootstrap cannot see beyond that; by Wilson's interval the accuracy is at least {number(low)}."
    return Finding("info", f"No error in {n:,} test sequences.", text)


def _widened(estimate: Estimate, metric: str, n: int) -> Estimate:
    """Give an accuracy of 0 or 1, whose bootstrap interval has no width, its Wilson interval."""
    if metric not in ("accuracy", "balanced_accuracy") or not n or estimate.low < estimate.high:
        return estimate
    low, high = wilson(np.array([estimate.value]), np.array([n]))
    return Estimate(estimate.value, float(low[0]), float(high[0]))


def _largest_share(results: Results) -> float:
    counts = results.split.counts.get("test") or results.data.per_class
    total = sum(counts.values())
    return max(counts.values()) / total if total else 1 / max(len(results.classes), 1)


def _finite(estimate: Estimate) -> bool:
    return math.isfinite(estimate.value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _after_colon(text: str) -> str:
    """Drop the first words of a leak summary ("Leak:", "No leak:"), which the headline already says."""
    return _capital(text.split(": ", 1)[-1])
