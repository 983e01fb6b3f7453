"""Attribution logos: letters as tall as their score, drawn from glyph outlines.

A long sequence is shown twice: as a track over its whole length, and as letters in the window that matters
most.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as GlyphPath
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from genomics.palette import BASES, LIGHT

WINDOW = 50  # letters that stay legible in one column of the report, also on a phone
WIDTH = 5.8  # inches
TEXT = 12.0
MAX_TRACK_POINTS = 600


@cache
def glyph(letter: str) -> GlyphPath:
    """Return a letter's outline, scaled to fill the unit square.

    Args:
        letter: One character.

    Returns:
        A closed path from (0, 0) to (1, 1).
    """
    outline = TextPath((0, 0), letter, size=100, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()
    return outline.transformed(Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height))


def best_window(scores: Float[np.ndarray, " length"], width: int = WINDOW) -> tuple[int, int]:
    """Find the window that holds the largest absolute scores near its middle.

    Args:
        scores: One score a base.
        width: Window length in bases.

    Returns:
        Start and end, 0-based, half-open; the whole sequence when it is not longer than ``width``.
    """
    if len(scores) <= width:
        return 0, len(scores)
    # Weights that fall towards the ends keep what matters off the edge of the drawing.
    weight = np.hanning(width + 2)[1:-1] + 0.05
    start = int(np.argmax(np.convolve(np.abs(np.nan_to_num(scores)), weight, mode="valid")))
    return start, start + width


def draw_letters(axes: Axes, sequence: str, scores: Float[np.ndarray, " length"], start: int = 0) -> None:
    """Draw one letter a base; negative scores hang upside down below the axis.

    Args:
        axes: Where to draw, in base coordinates.
        sequence: Bases.
        scores: One score a base.
        start: Coordinate of the first base.
    """
    paths: dict[str, list[GlyphPath]] = {}
    for offset, (letter, score) in enumerate(zip(sequence.upper(), np.nan_to_num(scores), strict=True)):
        if score == 0:
            continue
        place = Affine2D().scale(0.9, float(score)).translate(start + offset + 0.05, 0)
        paths.setdefault(letter, []).append(glyph(letter).transformed(place))
    for letter, outlines in paths.items():
        colour = LIGHT[BASES.get(letter, "base_n")]
        axes.add_collection(PathCollection(outlines, facecolors=colour, edgecolors="none"), autolim=False)


def logo(
    sequence: str,
    scores: Float[np.ndarray, " length"],
    *,
    window: tuple[int, int] | None = None,
    ylabel: str = "score",
) -> Figure:
    """Draw an attribution logo.

    Args:
        sequence: Bases.
        scores: One score a base.
        window: Part to draw, 0-based half-open; `best_window` by default.
        ylabel: Name of the score.

    Returns:
        The figure.
    """
    scores = np.asarray(scores, dtype=np.float64)
    start, end = window or best_window(scores)
    figure = Figure(figsize=(WIDTH, 1.9), dpi=72)
    figure.set_layout_engine("constrained")
    axes = _axes(figure)
    shown = np.nan_to_num(scores[start:end])
    draw_letters(axes, sequence[start:end], shown, start)
    low, high = min(shown.min(initial=0), 0.0), max(shown.max(initial=0), 0.0)
    room = 0.06 * ((high - low) or 1.0)
    axes.set(xlim=(start - 0.5, max(end, start + 20) + 0.5), ylim=(low - room, high + room), ylabel=ylabel)
    axes.axhline(0, color=LIGHT["muted"], lw=0.8)
    ticks = [
        tick
        for tick in MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]).tick_values(start, end)
        if start <= tick < end
    ]
    axes.set_xticks([tick + 0.5 for tick in ticks], [f"{int(tick)}" for tick in ticks])
    return figure


def track(scores: Float[np.ndarray, " length"], *, window: tuple[int, int], ylabel: str = "score") -> Figure:
    """Draw the scores of a whole sequence, smoothed, with the window of the logo shaded.

    Args:
        scores: One score a base.
        window: The shaded part, 0-based half-open.
        ylabel: Name of the score.

    Returns:
        The figure.
    """
    scores = np.nan_to_num(np.asarray(scores, dtype=np.float64))
    size = max(1, -(-len(scores) // MAX_TRACK_POINTS))
    padded = np.pad(scores, (0, -len(scores) % size)).reshape(-1, size)
    x = (np.arange(len(padded)) + 0.5) * size
    figure = Figure(figsize=(WIDTH, 1.15), dpi=72, layout="constrained")
    axes = _axes(figure)
    axes.axvspan(*window, color=LIGHT["model"], alpha=0.15, lw=0)
    up, down = padded.max(axis=1).clip(min=0), padded.min(axis=1).clip(max=0)
    axes.fill_between(x, down, up, step="mid", color=LIGHT["model"], alpha=0.8, lw=0)
    axes.axhline(0, color=LIGHT["muted"], lw=0.8)
    axes.set(xlim=(0, len(scores)), ylabel=ylabel)
    return figure


def _axes(figure: Figure) -> Axes:
    axes = figure.subplots()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(LIGHT["muted"])
    axes.tick_params(colors=LIGHT["muted"], labelsize=TEXT - 1.5, bottom=False)
    axes.yaxis.label.set(color=LIGHT["ink"], fontsize=TEXT - 1)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    return axes
