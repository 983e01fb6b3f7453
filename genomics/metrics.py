"""Test metrics with bootstrap intervals, as `seqmamba.metrics` computes them."""

from seqmamba.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    Estimate,
    confusion_metrics,
    draw_resamples,
    evaluate,
    evaluate_resamples,
    f1_scores,
    percentile_interval,
)

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "Estimate",
    "confusion_metrics",
    "draw_resamples",
    "evaluate",
    "evaluate_resamples",
    "f1_scores",
    "percentile_interval",
]
