from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from seqmamba.metrics import Estimate
from seqmamba.report import plots
from seqmamba.report.curves import calibration, precision_recall, roc


def _texts(figure: Figure) -> list[str]:
    figure.canvas.draw()
    axes = figure.axes[0]
    written = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
    legend = axes.get_legend()
    return [text.get_text() for text in [*written, *(legend.get_texts() if legend else [])]]


def test_confusion_matrix_writes_counts_and_names() -> None:
    texts = _texts(plots.confusion_matrix(np.array([[1234, 6], [7, 80]]), ["a", "b"]))
    assert {"1,234", "6", "7", "80", "99.5%", "a", "b"} <= set(texts)


def test_a_large_confusion_matrix_has_no_unreadable_counts() -> None:
    k = plots.MAX_WRITTEN_CLASSES + 1
    figure = plots.confusion_matrix(np.eye(k, dtype=np.int64), [f"c{i}" for i in range(k)])
    assert not figure.axes[0].texts


def test_comparison_draws_intervals_and_no_tick_above_one() -> None:
    estimates = {"model": Estimate(0.97, 0.95, 0.99), "other": Estimate(0.6, 0.5, 0.7)}
    figure = plots.comparison(estimates, {"model": "model", "other": "other_1"}, chance=0.5)
    assert {"0.970", "0.600", "guessing", "model", "other"} <= set(_texts(figure))
    assert max(figure.axes[0].get_xticks()) <= 1
    drawn = [line.get_xdata() for line in figure.axes[0].lines]
    assert any(np.allclose(x, [0.95, 0.99]) for x in drawn if len(x) == 2)


def test_legend_gives_areas_of_awkward_names() -> None:
    scores, positive = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
    named = {"_hidden": roc(scores, positive), "$x$": roc(scores, positive)}
    texts = _texts(plots.curves(named, kind="roc"))
    assert any(text.strip().startswith("_hidden (0.750)") for text in texts)
    assert any("$x" in text.replace("\\", "") for text in texts)
    plots.curves({"p": precision_recall(scores, positive)}, kind="precision_recall", prevalence=0.5)


def test_calibration_draws_every_filled_bin() -> None:
    bins = calibration(np.array([0.05, 0.95, 0.97]), np.array([False, True, True]))
    figure = plots.calibration(bins, xlabel="stated", ylabel="observed")
    bars = figure.axes[1].patches
    assert sum(bar.get_height() for bar in bars) == 3
    assert len(bars) == 10


def test_a_large_scatter_is_thinned() -> None:
    values = np.arange(10_000.0)
    figure = plots.predicted_against_true(values, values, target="y")
    assert len(figure.axes[0].lines[0].get_xdata()) == plots.MAX_SCATTER
    assert len(plots.residuals(values, values + 1, target="y").axes[0].patches) > 0


@pytest.mark.parametrize("points", [1, 2, 60])
def test_learning_curves_of_any_length(points: int) -> None:
    line = plots.Line("training", np.arange(points, dtype=np.float64) + 1, np.linspace(1, 0, points))
    assert "training" in _texts(plots.learning_curves([line], ylabel="loss", best_epoch=1.0))
