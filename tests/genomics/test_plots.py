from __future__ import annotations

import numpy as np

from genomics.plots import against_context
from seqmamba.metrics import Estimate


def test_a_metric_against_context_has_a_line_a_name_and_its_intervals() -> None:
    lines = {
        "held out": {1_048_576: Estimate(0.95, 0.94, 0.96), 8_192: Estimate(0.9, 0.88, 0.91)},
        "unseen": {8_192: Estimate(0.7, np.nan, np.nan)},
    }
    figure = against_context(lines, ylabel="accuracy")
    figure.canvas.draw()
    (axes,) = figure.axes
    written = {label.get_text() for label in [*axes.get_xticklabels(), *axes.get_legend().get_texts()]}
    assert {"8.19 kb", "1.05 Mb", "held out", "unseen"} <= written
    (held_out, unseen) = axes.containers
    assert held_out[0].get_ydata().tolist() == [0.9, 0.95]  # from the shortest context on
    low, high = (segment[:, 1] for segment in held_out[2][0].get_segments())
    np.testing.assert_allclose([low, high], [[0.88, 0.91], [0.94, 0.96]])
    assert unseen[0].get_ydata().tolist() == [0.7]
    assert axes.get_xscale() == "log"
