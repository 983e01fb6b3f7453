"""Figures of what only DNA has; see `seqmamba.report.plots` for the others and `genomics.logos` for logos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seqmamba.metrics import Estimate
from seqmamba.report.palette import LIGHT, SERIES
from seqmamba.report.plots import blank_figure, draw_legend, short_name


def against_context(named: Mapping[str, Mapping[int, Estimate]], *, ylabel: str) -> Figure:
    """Draw a metric against the bases of context, with 95 % intervals.

    Args:
        named: Line name to context to estimate, at most eight lines.
        ylabel: Name of the metric.

    Returns:
        The figure; its horizontal axis is logarithmic.
    """
    figure, axes = blank_figure(4.0)
    contexts = sorted({context for line in named.values() for context in line})
    for number, ((name, line), colour) in enumerate(zip(named.items(), SERIES, strict=False)):
        x = np.array(sorted(line), dtype=float)
        shown = [line[context] for context in sorted(line)]
        value, low, high = np.array([(e.value, e.low, e.high) for e in shown]).T
        error = np.nan_to_num(np.maximum([value - low, high - value], 0))
        apart = 1 + 0.04 * (number - (len(named) - 1) / 2)  # intervals side by side, not on each other
        style: dict[str, Any] = {"color": LIGHT[colour], "lw": 2, "elinewidth": 2, "marker": "o", "ms": 6}
        axes.errorbar(x * apart, value, error, label=short_name(name, 40), **style)
    axes.set_xscale("log", base=2)
    axes.set_xticks(contexts, [_bases(context) for context in contexts])
    axes.minorticks_off()
    axes.set(xlabel="context", ylabel=ylabel)
    axes.margins(x=0.08, y=0.1)
    draw_legend(axes, "lower right")
    return figure


def _bases(count: int) -> str:
    """Write a number of bases as people say it: 131 kb, 1 Mb."""
    return f"{count / 1e6:.3g} Mb" if count >= 1_000_000 else f"{count / 1e3:.3g} kb"
