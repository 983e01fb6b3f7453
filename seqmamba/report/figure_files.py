"""Figures as files."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure in the format of the file's ending, SVG if it has none; twice the same gives the same.

    Args:
        figure: Any figure.
        path: The file; it is replaced, all or nothing.

    Returns:
        The file.

    Raises:
        UserError: If there is no such format.
    """
    kind = path.suffix.removeprefix(".").lower() or "svg"
    known = sorted(figure.canvas.get_supported_filetypes())
    if kind not in known:
        raise UserError(f"{path}: expected one of the endings {', '.join(known)}, got {path.suffix}")
    # The time of writing would make every copy another file; only these formats note it, each in its own way.
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with atomic_path(path) as part, matplotlib.rc_context({"svg.hashsalt": "seqmamba"}):  # no random names
        figure.savefig(part, format=kind, metadata=stamp)
    return path
