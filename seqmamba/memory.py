"""Amounts of memory: what is asked for, and what the process has taken."""

from __future__ import annotations

import re
import sys

from seqmamba.errors import UserError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_AMOUNT = re.compile(r"([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?", re.IGNORECASE)


def parse_bytes(text: str | int, name: str) -> int:
    """Return an amount of memory in bytes.

    Args:
        text: A number of bytes, or with a unit, as in ``40GiB``, ``500 MB`` or ``1.5g``.
        name: What it is for, for the error.

    Raises:
        UserError: If it is none, or not positive.
    """
    match = _AMOUNT.fullmatch(str(text).strip())
    amount = 0 if match is None else int(float(match[1]) * _UNITS[(match[2] or "").lower()])
    if amount <= 0:
        raise UserError(f"{name}: expected an amount of memory such as 40GiB, got {text!r}")
    return amount


def peak_memory() -> int | None:
    """Return the most bytes of main memory that the process has held at a time; None where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory() -> int | None:
    """Return the bytes that are in use: on the GPU if one is used, else the peak of main memory, if known."""
    torch = sys.modules.get("torch")  # whoever did not import it uses no GPU
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.memory_reserved())
    return peak_memory()


def describe_memory() -> str:
    """Return the peak of main memory, and of the GPU's if one was used, for the last line of a long work."""
    import torch

    peak = peak_memory()
    parts = [] if peak is None else [f"peak memory {peak / 1e6:,.0f} MB"]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        parts.append(f"{torch.cuda.max_memory_allocated() / 1e6:,.0f} MB on the GPU")
    return ", ".join(parts)
