"""Figures of result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from seqmamba.benchmarks.shapes import parse_shape
from seqmamba.errors import UserError
from seqmamba.report.palette import LIGHT, SERIES
from seqmamba.report.plots import blank_figure, draw_legend, short_name

Point = tuple[int, float, float, float]
"""Length, and positions a second: of the median, of the slowest and of the fastest repeat."""


def throughput(documents: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw positions a second against the length of sequences, a line a candidate, batch and width.

    Bars reach from the slowest repeat to the fastest; a position counts once, whatever its channels.

    Args:
        documents: As ``seqmamba bench OPERATOR -o`` writes them; at most eight lines in all.

    Returns:
        The figure; both axes are logarithmic.

    Raises:
        UserError: If there is nothing to draw, or too much.
    """
    lines = _lines(documents)
    if not 0 < len(lines) <= len(SERIES):
        raise UserError(
            f"bench plot: expected 1 to {len(SERIES)} lines of an operator's times, got {len(lines)}",
            hint="a line is a candidate at a batch size and a number of channels",
        )
    figure, axes = blank_figure(4.0)
    for (name, points), colour in zip(lines.items(), SERIES, strict=False):
        length, rate, slowest, fastest = np.array(sorted(points), dtype=float).T
        error = np.maximum([rate - slowest, fastest - rate], 0)
        style: dict[str, Any] = {"color": LIGHT[colour], "lw": 2, "elinewidth": 1.5, "marker": "o", "ms": 6}
        axes.errorbar(length, rate, error, label=short_name(name, 40), **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = sorted({point[0] for points in lines.values() for point in points})
    axes.set_xticks(lengths, [_count(length) for length in lengths])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: _count(rate)))
    axes.set(xlabel="length", ylabel="positions a second")
    draw_legend(axes)
    return figure


def _lines(documents: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Return the points of each line by its name, which says no more than tells the lines apart."""
    found: dict[tuple[str, str, str, str], list[Point]] = {}
    for document in documents:
        for comparison in document.get("comparisons", ()):
            shape = parse_shape(comparison["shape"])
            positions = shape.batch * shape.length
            for row in comparison["rows"]:
                if row["status"] == "ok":
                    times = row["times"]["sum"]
                    spread = (1e3 * positions / times[f"{kind}_ms"] for kind in ("median", "worst", "best"))
                    parts = (
                        document["operator"],
                        row["name"],
                        f"batch {shape.batch}",
                        f"{shape.dim} channels",
                    )
                    found.setdefault(parts, []).append((shape.length, *spread))
    columns = list(zip(*found, strict=True))
    differ = [number == 1 or len(set(column)) > 1 for number, column in enumerate(columns)]
    return {
        ", ".join(part for part, shown in zip(parts, differ, strict=True) if shown): points
        for parts, points in found.items()
    }


def _count(number: float) -> str:
    """Write a number in few letters, as in 16k or 1.05M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
