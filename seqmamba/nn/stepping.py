"""What a layer derives from its weights for its steps, and who keeps that alive.

A layer may derive tensors from its weights once, before the first of many steps. A CUDA graph of such steps
reads them at every replay, long after the layer may have dropped them, so the graph has to keep them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_kept: ContextVar[list[Any] | None] = ContextVar("_kept", default=None)


@contextmanager
def keeping_derived() -> Iterator[list[Any]]:
    """Collect what layers hand to `keep_derived` inside the block, for a graph captured there to hold on to.

    Yields:
        The list of it.
    """
    kept: list[Any] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def keep_derived(tensors: Any) -> bool:
    """Hand over tensors that were derived from weights before, so that a graph may read them.

    Args:
        tensors: A tensor or any structure of tensors.

    Returns:
        Whether anyone keeps them; if not, a captured step must derive its own.
    """
    kept = _kept.get()
    if kept is None:
        return False
    kept.append(tensors)
    return True
