"""Learning curves from metrics.csv."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seqmamba.report.plots import Line
from seqmamba.report.words import metric_name
from seqmamba.training.metrics_csv import read_rows

LOSS_NAMES = {
    "train/loss": "training",
    "train_loss": "training",
    "train/loss_epoch": "training",
    "val/loss": "validation",
    "val_loss": "validation",
    "validation/loss": "validation",
}
SCORES = ("accuracy", "f1", "mcc", "auroc", "auprc", "pearson", "spearman", "r2")


@dataclass(frozen=True)
class History:
    """What a run logged.

    Attributes:
        losses: Training and validation loss.
        scores: Validation metrics that rise as the model improves.
        best_epoch: Where the validation loss was lowest.
    """

    losses: list[Line] = field(default_factory=list)
    scores: list[Line] = field(default_factory=list)
    best_epoch: float | None = None


def read_history(path: Path) -> History:
    """Read the learning curves of a run.

    Args:
        path: ``metrics.csv``; a missing or empty file has no curves.

    Returns:
        Lines over epochs. Rows are placed by their optimiser step, so that several rows an epoch do not
        overlap.
    """
    rows = read_rows(path)
    columns: dict[str, list[tuple[float, float]]] = {}
    per_epoch = _steps_per_epoch(rows)
    for row in rows:
        place = _number(row.get("step")) / per_epoch
        for name, cell in row.items():
            value = _number(cell)
            if np.isfinite(place) and np.isfinite(value):
                columns.setdefault(name, []).append((place, value))
    losses = [_line(words, columns[name]) for name, words in LOSS_NAMES.items() if name in columns]
    scores = [
        _line(metric_name(score), columns[name])
        for score in SCORES
        for name in (f"val/{score}", f"val_{score}", f"validation/{score}")
        if name in columns
    ]
    validation = next((line for line in losses if line.label == "validation"), None)
    best = None if validation is None else float(validation.x[np.argmin(validation.y)])
    return History(losses, scores, best if validation is not None and len(validation.x) > 1 else None)


def _steps_per_epoch(rows: list[dict[str, str]]) -> float:
    """Optimiser steps an epoch: the last step over the number of epochs; 1 where rows do not tell."""
    # The rows of a test pass carry the epoch after the last one.
    logged = [row for row in rows if not LOSS_NAMES.keys().isdisjoint(row)]
    ends = [(_number(row.get("epoch")), _number(row.get("step"))) for row in logged]
    known = [(epoch, step) for epoch, step in ends if np.isfinite(epoch) and np.isfinite(step)]
    if not known:
        return 1.0
    epochs, steps = max(epoch for epoch, _ in known) + 1, max(step for _, step in known)
    return max(steps / epochs, 1e-9)


def _line(label: str, points: list[tuple[float, float]]) -> Line:
    x, y = np.array(points, dtype=np.float64).T
    return Line(label, x, y)


def _number(text: str | None) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")
