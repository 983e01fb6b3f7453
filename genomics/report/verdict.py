"""What the numbers of a DNA run mean, in sentences; see `seqmamba.report.verdict`."""

from __future__ import annotations

from genomics.results import Results
from seqmamba.predictions import Predictions
from seqmamba.report.verdict import (
    Finding,
    against_baselines,
    capital,
    chance_level,
    limits,
    outcomes,
    overall,
    primary_metric,
    tested_count,
)
from seqmamba.report.words import BaselineWords, Wording, metric_name, number, with_interval

SHORTCUT = 0.15  # length and GC alone this far above guessing is worth a warning
WORDING = Wording(
    "seqmamba · DNA sequence model",
    "sequence",
    {
        "cnn": BaselineWords("Small CNN", "a small CNN"),
        "kmer": BaselineWords("k-mer logistic", "a k-mer model"),
        "length_gc": BaselineWords("Length + GC only", "length and GC content alone"),
    },
)


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
    n = tested_count(results, test)
    findings = [
        _leaks(results),
        against_baselines(results, metric, n, WORDING),
        _shortcut(results, metric),
        *limits(results, n, WORDING),
    ]
    return [_overall(results, metric, n), *(finding for finding in findings if finding is not None)]


def _overall(results: Results, metric: str, n: int) -> Finding:
    found = overall(results, metric, n, WORDING)
    if results.leaks and results.leaks.get("serious", not results.leaks.get("ok", True)):
        words = f"{metric_name(metric)} on the test set is {with_interval(results.metrics[metric])}."
        headline = "Do not trust these numbers yet: the test set leaks into the training set."
        return Finding("bad", headline, words)
    same_as_shortcut = outcomes(results, metric, n).get("length_gc") == "same"
    if found.level in ("info", "warn") and same_as_shortcut:
        return Finding("bad", "Length and GC content alone do as well as the model.", found.detail)
    return found


def _leaks(results: Results) -> Finding | None:
    leaks = results.leaks
    if not leaks:
        return Finding("warn", "No leak check ran.", "Test sequences may have copies in the training set.")
    summary = str(leaks.get("summary", ""))
    if leaks.get("ok", True):
        return Finding("good", "No leak found between the parts.", _after_colon(summary))
    level = "bad" if leaks.get("serious", True) else "warn"  # a few copies in thousands move no metric
    return Finding(level, "The parts share sequences.", _after_colon(summary))


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


def _after_colon(text: str) -> str:
    """Drop the first words of a leak summary ("Leak:", "No leak:"), which the headline already says."""
    return capital(text.split(": ", 1)[-1])
