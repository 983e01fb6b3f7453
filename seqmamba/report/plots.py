"""Figures of a test set and of training, as matplotlib `Figure` objects.

Every function takes arrays (see `seqmamba.report.curves`) and returns a figure that can be saved in any
format; a report turns the same figures into themed SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from seqmamba.metrics import Estimate
from seqmamba.report.curves import Band, Calibration, Curve
from seqmamba.report.markup import visible
from seqmamba.report.palette import LIGHT, SERIES

WIDTH = 5.8  # inches; one column of the report
TEXT = 12.0
DASHED: Any = (0, (4, 3))
MAX_WRITTEN_CLASSES = 12  # more than this and the counts in a confusion matrix cannot be read
MAX_SCATTER = 2000


@dataclass(frozen=True)
class Line:
    """One line of a learning-curve figure.

    Attributes:
        label: Name in the figure.
        x: Epochs, counted from 0 at the start of training.
        y: Values.
    """

    label: str
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]


def learning_curves(lines: Sequence[Line], *, ylabel: str, best_epoch: float | None = None) -> Figure:
    """Draw values over epochs.

    Args:
        lines: What to draw, at most eight.
        ylabel: Name of the vertical axis.
        best_epoch: Where to put a mark, for example at the lowest validation loss.

    Returns:
        The figure.
    """
    figure, axes = blank_figure(3.7)
    for line, colour in zip(lines, SERIES, strict=False):
        few = len(line.x) <= 25
        axes.plot(
            line.x, line.y, color=LIGHT[colour], lw=2, marker="o" if few else None, ms=4, label=line.label
        )
    if best_epoch is not None:
        axes.axvline(best_epoch, color=LIGHT["muted"], lw=1, ls=DASHED, label="lowest validation loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=max(line.x.max() for line in lines) > 2))
    axes.margins(x=0.03, y=0.08)
    draw_legend(axes)
    return figure


def comparison(
    estimates: Mapping[str, Estimate], colours: Mapping[str, str], *, chance: float | None = None
) -> Figure:
    """Draw estimates of one metric with their 95 % intervals below each other.

    Args:
        estimates: Row name to estimate, in the order from top to bottom.
        colours: Row name to a colour of `seqmamba.report.palette`.
        chance: Value that guessing reaches, drawn as a vertical line.

    Returns:
        The figure.
    """
    figure, axes = blank_figure(0.9 + 0.52 * len(estimates))
    near: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": TEXT}
    for row, (name, estimate) in enumerate(estimates.items()):
        colour = LIGHT[colours[name]]
        ends = [estimate.low, estimate.high]
        axes.plot(ends, [row, row], color=colour, lw=6, alpha=0.35, solid_capstyle="butt")
        axes.plot(estimate.value, row, "o", color=colour, ms=9)
        right = max(v for v in (estimate.high, estimate.value) if np.isfinite(v))
        axes.annotate(f"{estimate.value:.3f}", (right, row), (8, 0), color=LIGHT["ink"], **near)
    if chance is not None:
        axes.axvline(chance, color=LIGHT["chance"], lw=1.2, ls=DASHED)
        axes.annotate("guessing", (chance, -0.62), (5, 0), color=LIGHT["muted"], **near)
    axes.set_yticks(range(len(estimates)), list(estimates))
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.set_ylim(len(estimates) - 0.4, -0.9)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.14)
    low, high = axes.get_xlim()
    places = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    # Room for the numbers reaches past 1, but no metric of that scale does.
    most = 1.0 if all(estimate.value <= 1 for estimate in estimates.values()) else high
    axes.set_xticks([place for place in places if low <= place <= most + 1e-9])
    axes.set_xlim(low, high)
    return figure


def confusion_matrix(counts: Int[np.ndarray, "k k"], classes: Sequence[str]) -> Figure:
    """Draw counts of true against predicted class, shaded by the fraction of each true class.

    Args:
        counts: True class in rows, predicted class in columns.
        classes: Class names.

    Returns:
        The figure; counts are written into the cells up to `MAX_WRITTEN_CLASSES` classes.
    """
    k = len(classes)
    figure, axes = blank_figure(4.6 if k > 3 else 3.7)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for i in range(k):
        for j in range(k):
            colour = LIGHT["model"] if i == j else LIGHT["bad"]
            axes.add_patch(Rectangle((j, i), 0.97, 0.97, fc=colour, alpha=0.06 + 0.6 * fractions[i, j], lw=0))
            if k <= MAX_WRITTEN_CLASSES:
                _cell_text(axes, i, j, int(counts[i, j]), float(fractions[i, j]), k)
    names = [short_name(name, 14 if k <= 6 else 10) for name in classes]
    size = TEXT if k <= 8 else max(5.0, TEXT * 8 / k)
    ticks = np.arange(k) + 0.485
    axes.set_xticks(
        ticks, names, fontsize=size, rotation=0 if k <= 4 else 45, ha="center" if k <= 4 else "right"
    )
    axes.set_yticks(ticks, names, fontsize=size)
    axes.tick_params(length=0, labelcolor=LIGHT["ink"])
    axes.set(xlim=(-0.03, k), ylim=(k, -0.03), xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def curves(
    named: Mapping[str, Curve],
    *,
    kind: str,
    band: Band | None = None,
    prevalence: float | None = None,
) -> Figure:
    """Draw ROC or precision-recall curves in the unit square.

    Args:
        named: Class name to curve, at most eight.
        kind: ``roc`` or ``precision_recall``.
        band: Bootstrap limits of the first ROC curve.
        prevalence: Fraction of positives, the precision of guessing.

    Returns:
        The figure; the legend gives the areas.
    """
    figure, axes = blank_figure(4.3)
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=LIGHT["chance"], lw=1.2, ls=DASHED)
    elif prevalence is not None:
        axes.axhline(prevalence, color=LIGHT["chance"], lw=1.2, ls=DASHED)
    if band is not None:
        axes.fill_between(band.x, band.low, band.high, color=LIGHT[SERIES[0]], alpha=0.18, lw=0)
    for (name, curve), colour in zip(named.items(), SERIES, strict=False):
        style = "default" if kind == "roc" else "steps-pre"
        label = f"{short_name(name, 22)} ({curve.area:.3f})"
        axes.plot(curve.x, curve.y, color=LIGHT[colour], lw=2, label=label, drawstyle=style)
    if kind == "roc":
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
    else:
        axes.set(xlabel="recall", ylabel="precision")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.03))
    draw_legend(axes, "lower right" if kind == "roc" else "lower left")
    return figure


def calibration(bins: Calibration, *, xlabel: str, ylabel: str) -> Figure:
    """Draw observed frequency against stated probability, above the number of cases per bin.

    Args:
        bins: Frequencies with their limits.
        xlabel: What was stated.
        ylabel: What was observed.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(WIDTH, 4.3), dpi=72)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    figure.set_layout_engine("constrained")
    for panel in (axes, below):
        dress_axes(panel)
    start = float(bins.edges[0])
    axes.plot([start, 1], [start, 1], color=LIGHT["chance"], lw=1.2, ls=DASHED)
    error = np.maximum([bins.frequency - bins.low, bins.high - bins.frequency], 0)
    colour = LIGHT["model"]
    axes.errorbar(bins.confidence, bins.frequency, error, color=colour, lw=2, elinewidth=2, marker="o", ms=6)
    axes.set_ylabel(ylabel)
    lowest = min(start, float(bins.low.min(initial=1.0)))
    axes.set(xlim=(start - 0.02, 1.02), ylim=(max(lowest - 0.05, -0.03), 1.04))
    all_counts = np.zeros(len(bins.edges) - 1)
    which = np.clip(np.searchsorted(bins.edges, bins.confidence, side="right") - 1, 0, len(all_counts) - 1)
    all_counts[which] = bins.count
    below.bar(bins.edges[:-1], all_counts, np.diff(bins.edges) * 0.94, align="edge", color=colour, alpha=0.55)
    below.set(xlabel=xlabel, ylabel="count")
    below.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    return figure


def predicted_against_true(
    labels: Float[np.ndarray, " n"], outputs: Float[np.ndarray, " n"], *, target: str
) -> Figure:
    """Draw predictions of a regression against the true values.

    Args:
        labels: True values.
        outputs: Predicted values.
        target: Name of the quantity.

    Returns:
        The figure; above `MAX_SCATTER` points an evenly spaced subset is drawn.
    """
    figure, axes = blank_figure(4.3)
    some = np.linspace(0, len(labels) - 1, min(len(labels), MAX_SCATTER)).astype(int)
    alpha = 0.75 if len(some) < 300 else 0.35
    axes.plot(labels[some], outputs[some], "o", color=LIGHT["model"], ms=5, alpha=alpha, mew=0)
    both = np.concatenate([labels[some], outputs[some]])
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, color=LIGHT["chance"], lw=1.2, ls=DASHED, label="perfect")
    axes.set(xlabel=f"true {short_name(target, 30)}", ylabel=f"predicted {short_name(target, 30)}")
    draw_legend(axes, "upper left")
    return figure


def residuals(labels: Float[np.ndarray, " n"], outputs: Float[np.ndarray, " n"], *, target: str) -> Figure:
    """Draw the distribution of prediction minus truth.

    Args:
        labels: True values.
        outputs: Predicted values.
        target: Name of the quantity.

    Returns:
        The figure.
    """
    figure, axes = blank_figure(4.3)
    axes.hist(outputs - labels, bins="auto" if len(labels) < 5000 else 60, color=LIGHT["model"], alpha=0.6)
    axes.axvline(0, color=LIGHT["chance"], lw=1.2, ls=DASHED)
    axes.set(xlabel=f"predicted minus true {short_name(target, 30)}", ylabel="count")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return figure


def blank_figure(height: float) -> tuple[Figure, Axes]:
    """Return an empty figure, a column of a report wide and so many inches high, and its axes."""
    figure = Figure(figsize=(WIDTH, height), dpi=72, layout="constrained")
    axes = figure.subplots()
    dress_axes(axes)
    return figure, axes


def dress_axes(axes: Axes) -> None:
    """Give axes the colours, the grid and the text sizes of a report."""
    figure = axes.figure
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(LIGHT["muted"])
    axes.tick_params(colors=LIGHT["muted"], labelcolor=LIGHT["muted"], labelsize=TEXT)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=LIGHT["ink"], fontsize=TEXT)
    axes.grid(color=LIGHT["grid"], lw=1)
    axes.set_axisbelow(True)


def draw_legend(axes: Axes, where: Any = "best") -> None:
    """Draw a legend; ``where`` is a place as matplotlib names it."""
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles, labels, fontsize=TEXT - 1, labelcolor=LIGHT["ink"], borderpad=0.5)
    legend.set_loc(where)
    legend.get_frame().set(facecolor=LIGHT["surface"], edgecolor="none", alpha=0.85)


def _cell_text(axes: Axes, i: int, j: int, count: int, fraction: float, k: int) -> None:
    x, y = j + 0.485, i + 0.485
    big = TEXT + 5 if k <= 3 else (TEXT + 1 if k <= 6 else TEXT - 2)
    axes.text(
        x, y, f"{count:,}", ha="center", va="center" if k > 6 else "bottom", fontsize=big, color=LIGHT["ink"]
    )
    if k <= 6:
        axes.text(
            x, y + 0.03, f"{fraction:.1%}", ha="center", va="top", fontsize=TEXT - 1, color=LIGHT["ink"]
        )


def short_name(name: str, length: int) -> str:
    """Cut a user's name, and keep matplotlib from reading it as a formula or a hidden label."""
    name = visible(name)
    cut = name if len(name) <= length else f"{name[: length - 1]}…"
    return cut.replace("$", r"\$") if not cut.startswith("_") else " " + cut.replace("$", r"\$")
