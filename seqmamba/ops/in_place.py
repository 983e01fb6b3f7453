"""Steps that write the new state over the old one, where the caller says that nobody reads the old one again.

A step of a large model moves hardly more than its state. Written elsewhere, the new one needs as much memory
again, and whoever keeps a state in one place has to copy it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_updating: ContextVar[bool] = ContextVar("_updating", default=False)


@contextmanager
def updating_states_in_place() -> Iterator[None]:
    """Let the step operators inside the block change the state they are given, and return that same tensor.

    Those do that have a kernel for the tensors at hand; the others return a new state as ever. Every state
    must be used once: what reads it after its step finds the new one.
    """
    token = _updating.set(True)
    try:
        yield
    finally:
        _updating.reset(token)


def may_overwrite(state: Tensor) -> bool:
    """Tell whether a kernel may write the new state over this one.

    Args:
        state: The state before a step.
    """
    if torch.compiler.is_compiling() or not _updating.get():
        return False
    return state.dtype in (torch.float32, torch.complex64) and state.is_contiguous() and not state.is_conj()
