"""Drawings of attributions: the scores along a sequence, and its most important stretch as letters."""

from __future__ import annotations

import re
from pathlib import Path

from genomics.alphabet import decode
from genomics.attribution_run import Explained
from genomics.logos import best_window, logo, track
from seqmamba.report.figure_files import save_figure

_UNSAFE = re.compile(r"[^\w.+-]+")


def draw(one: Explained, folder: Path, ylabel: str) -> list[Path]:
    """Write ``NAME.logo.svg``, and ``NAME.track.svg`` where the sequence is longer than a logo.

    Args:
        one: The scores of a sequence.
        folder: Where to; it is made.
        ylabel: Name of what is explained.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = _UNSAFE.sub("_", one.name)
    window = best_window(one.scores)
    figures = {"logo": logo(decode(one.tokens), one.scores, window=window, ylabel=ylabel)}
    if window != (0, len(one.scores)):
        figures["track"] = track(one.scores, window=window, ylabel=ylabel)
    return [save_figure(figure, folder / f"{name}.{kind}.svg") for kind, figure in figures.items()]
