"""Where seqmamba keeps data that it can fetch or rebuild."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "SEQMAMBA_DATA"
KERNELS_VARIABLE = "SEQMAMBA_KERNELS"


def data_dir() -> Path:
    """Return the folder of prepared data: ``$SEQMAMBA_DATA``, or ``seqmamba`` in the user's cache folder."""
    configured = os.environ.get(DATA_VARIABLE)
    if configured:
        return Path(configured).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "seqmamba"


def kernels_dir() -> Path:
    """Return the folder of compiled GPU kernels: ``$SEQMAMBA_KERNELS``, or ``kernels`` in `data_dir`."""
    configured = os.environ.get(KERNELS_VARIABLE)
    return Path(configured).expanduser() if configured else data_dir() / "kernels"


def expand(path: str | Path) -> Path:
    """Expand ``~`` and environment variables; ``${SEQMAMBA_DATA}`` means `data_dir` even when unset.

    Args:
        path: A path as written in a recipe or on the command line.

    Returns:
        The path to open.
    """
    text = str(path)
    for spelling in (f"${{{DATA_VARIABLE}}}", f"${DATA_VARIABLE}"):
        text = text.replace(spelling, str(data_dir()))
    return Path(os.path.expandvars(text)).expanduser()
