from __future__ import annotations

import dataclasses
import math

import pytest

from genomics.report.verdict import judge
from genomics.results import Results, SplitSummary
from seqmamba.metrics import Estimate
from seqmamba.report.verdict import chance_level, compare, primary_metric
from seqmamba.results import BaselineSummary

BALANCED = SplitSummary("random", "", {"test": {"a": 500, "b": 500}})


def _results(
    model: tuple[float, float], metric: str = "accuracy", **baselines: tuple[float, float]
) -> Results:
    def estimate(ends: tuple[float, float]) -> Estimate:
        return Estimate(sum(ends) / 2, *ends)

    return Results(
        title="t",
        task="classification",
        classes=("a", "b"),
        split=BALANCED,
        leaks={"ok": True, "summary": "No leak: none."},
        metrics={metric: estimate(model)},
        baselines={name: BaselineSummary({metric: estimate(ends)}, 1.0) for name, ends in baselines.items()},
    )


@pytest.mark.parametrize(
    ("model", "other", "metric", "expected"),
    [
        ((0.9, 0.95), (0.8, 0.89), "accuracy", "better"),
        ((0.9, 0.95), (0.8, 0.91), "accuracy", "same"),
        ((0.7, 0.75), (0.8, 0.91), "accuracy", "worse"),
        ((0.7, 0.75), (0.8, 0.91), "mse", "better"),
        ((math.nan, math.nan), (0.8, 0.91), "accuracy", "same"),
    ],
)
def test_only_separate_intervals_differ(
    model: tuple[float, float], other: tuple[float, float], metric: str, expected: str
) -> None:
    assert compare(Estimate(0.9, *model), Estimate(0.8, *other), metric) == expected


def test_a_flawless_handful_is_not_certainty() -> None:
    model, other = Estimate(1.0, 1.0, 1.0), Estimate(0.8, 0.6, 0.93)
    assert compare(model, other, "accuracy", n=14) == "same"
    assert compare(model, other, "accuracy", n=1000) == "better"


@pytest.mark.parametrize(
    ("results", "level", "words"),
    [
        (
            _results((0.97, 0.99), cnn=(0.9, 0.95), kmer=(0.8, 0.9)),
            "good",
            "beats a small CNN and a k-mer model",
        ),
        (
            _results((0.97, 0.99), cnn=(0.96, 0.98), kmer=(0.8, 0.9)),
            "info",
            "beats a k-mer model, but is not distinguishable from a small CNN",
        ),
        (_results((0.97, 0.99), cnn=(0.96, 0.98)), "warn", "not distinguishable from a small CNN"),
        (_results((0.8, 0.85), cnn=(0.9, 0.95)), "bad", "A small CNN beats the model"),
        (
            _results((0.8, 0.85), kmer=(0.6, 0.7), length_gc=(0.79, 0.86)),
            "bad",
            "Length and GC content alone do as well",
        ),
        (_results((0.45, 0.55), cnn=(0.45, 0.55)), "bad", "not distinguishable from guessing"),
        (_results((0.8, 0.9)), "info", "better than guessing"),
        (
            dataclasses.replace(_results((0.9, 0.95)), leaks={"ok": False, "summary": "Leak: x."}),
            "bad",
            "leaks",
        ),
        (dataclasses.replace(_results((0.9, 0.95)), metrics={}), "info", "No test results"),
    ],
)
def test_verdict(results: Results, level: str, words: str) -> None:
    first = judge(results)[0]
    assert first.level == level
    assert words in first.headline


def test_a_shortcut_is_named_even_when_the_model_wins() -> None:
    findings = judge(_results((0.97, 0.99), length_gc=(0.75, 0.8)))
    assert findings[0].level == "good"
    assert any("Length or GC content" in finding.headline for finding in findings[1:])
    findings = judge(_results((0.97, 0.99), length_gc=(0.5, 0.6)))
    assert not any("Length or GC content" in finding.headline for finding in findings[1:])


def test_imbalance_moves_the_comparison_off_accuracy() -> None:
    results = dataclasses.replace(
        _results((0.9, 0.95)),
        metrics={"accuracy": Estimate(0.9, 0.88, 0.92), "balanced_accuracy": Estimate(0.5, 0.48, 0.52)},
        split=SplitSummary("random", "", {"test": {"a": 900, "b": 100}}),
    )
    assert primary_metric(results) == "balanced_accuracy"
    assert chance_level("accuracy", results) == pytest.approx(0.9)
    assert judge(results)[0].level == "bad"


def test_a_small_test_set_and_a_missing_leak_check_are_told() -> None:
    results = dataclasses.replace(
        _results((0.7, 1.0)), split=SplitSummary("random", "", {"test": {"a": 12, "b": 30}}), leaks={}
    )
    headlines = [finding.headline for finding in judge(results)]
    assert "The test set is small." in headlines
    assert "No leak check ran." in headlines
    detail = next(f.detail for f in judge(results) if f.headline == "The test set is small.")
    assert "fewer than 20 of a." in detail
