"""How much memory the process has taken."""

from __future__ import annotations

import sys


def peak_memory() -> int | None:
    """Return the most bytes of main memory that the process has held at a time; None where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_memory() -> str:
    """Return the peak of main memory, and of the GPU's if one was used, for the last line of a long work."""
    import torch

    peak = peak_memory()
    parts = [] if peak is None else [f"peak memory {peak / 1e6:,.0f} MB"]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        parts.append(f"{torch.cuda.max_memory_allocated() / 1e6:,.0f} MB on the GPU")
    return ", ".join(parts)
