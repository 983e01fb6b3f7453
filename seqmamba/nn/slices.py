"""Work that each position needs by itself, on slices of long sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SLICE = 65_536
"""Positions of a slice."""


def in_slices(function: Callable[..., Any], *tensors: Tensor | None, positions: int | None = None) -> Any:
    """Apply a function of every position to slices of a sequence, so that its inside is never held of all.

    In the backward pass each slice is computed again. What this is for are heads and losses: logits, their
    softmax and what leads to them take many times the memory of the loss.

    Args:
        function: Takes slices of the tensors, returns a tensor or a tuple of tensors (batch, slice, ...).
        *tensors: (batch, length, ...) each; None is handed on.
        positions: Of a slice, by default `SLICE`; no more are taken at once.

    Returns:
        What the function gives for the whole sequence.
    """
    positions = SLICE if positions is None else positions
    length = next(x.shape[1] for x in tensors if x is not None)
    if length <= positions:
        return function(*tensors)
    count = -(-length // positions)
    pieces = [(None,) * count if x is None else x.split(positions, dim=1) for x in tensors]
    found = [_run(function, piece) for piece in zip(*pieces, strict=True)]
    if isinstance(found[0], Tensor):
        return torch.cat(found, dim=1)
    return tuple(torch.cat(parts, dim=1) for parts in zip(*found, strict=True))


def _run(function: Callable[..., Any], piece: tuple[Tensor | None, ...]) -> Any:
    if not torch.is_grad_enabled():
        return function(*piece)
    return checkpoint(function, *piece, use_reentrant=False, preserve_rng_state=False)
