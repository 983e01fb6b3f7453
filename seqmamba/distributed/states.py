"""The states that pass from rank to rank.

A piece of a sequence turns the state before it, h, into ``decay * h + own``: `own` is where the piece ends if
it starts from zero. So the state before a rank follows from these two of all ranks that come before it, one
small message from each to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Inexact
from torch import Tensor

from seqmamba.distributed.group import ContextGroup


def processing_order(context: ContextGroup, reverse: bool) -> list[int]:
    """Return the ranks in the order in which a state passes them.

    Args:
        context: The ranks.
        reverse: Whether it passes from right to left.
    """
    ranks = range(context.size)
    return list(reversed(ranks)) if reverse else list(ranks)


def chain(
    order: Sequence[int],
    initial: Inexact[Tensor, "*state"],
    step: Callable[[int, Tensor], Tensor],
) -> list[Inexact[Tensor, "*state"]]:
    """Return the state before each rank, by its number, and last of all the one behind the sequence.

    Args:
        order: See `processing_order`.
        initial: The state before the sequence.
        step: Turns the state before a rank into that behind it.
    """
    before = [initial] * len(order)
    state = initial
    for rank in order:
        before[rank] = state
        state = step(rank, state)
    return [*before, state]


def passes(
    context: ContextGroup, reset: Bool[Tensor, "batch length"] | None, reverse: bool
) -> Bool[Tensor, " batch"] | None:
    """Tell in which rows a state can pass this rank's piece; None: in all.

    Args:
        context: The ranks.
        reset: True where a new packed sequence starts.
        reverse: Whether it passes from right to left. The boundary before the first piece is not crossed.
    """
    if reset is None:
        return None
    return ~reset[:, int(reverse and context.first) :].any(dim=1)


def leaves(
    context: ContextGroup, reset: Bool[Tensor, "batch length"] | None, reverse: bool
) -> Bool[Tensor, " batch"] | None:
    """Tell in which rows a state can leave this rank's piece; None: in all. See `passes`."""
    if reset is None or not reverse or context.first:
        return None  # left to right, a state is dropped by the piece that it enters
    return ~reset[:, 0]


def masked(x: Inexact[Tensor, batch * state], rows: Bool[Tensor, " batch"] | None) -> Tensor:
    """Return x with zeros in the other rows.

    Args:
        x: One state a row.
        rows: The rows to keep; None: all.
    """
    return x if rows is None else torch.where(rows.view(-1, *(1,) * (x.ndim - 1)), x, 0)
