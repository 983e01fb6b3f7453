"""Cutting sequences into the pieces that ranks hold, and putting them together again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Inexact, Shaped
from torch import Tensor
from torch.nn import functional as F

from seqmamba.distributed.collectives import gather
from seqmamba.distributed.group import ContextGroup
from seqmamba.errors import UserError

SHORTEST_PIECE = 16
"""Positions of a rank, at least: a short convolution looks at the next piece and no further."""


def piece_bounds(context: ContextGroup, length: int, rank: int | None = None) -> slice:
    """Return which positions a rank holds. Pieces differ by one position at most.

    Args:
        context: The ranks.
        length: Of the whole sequence.
        rank: Which; None: this one.

    Raises:
        UserError: If the sequence is too short for as many ranks.
    """
    if length < SHORTEST_PIECE * context.size:
        raise UserError(
            f"context: expected sequences of at least {SHORTEST_PIECE} positions a rank, that is "
            f"{SHORTEST_PIECE * context.size}, got {length}",
            hint="share the sequence out among fewer ranks",
        )
    rank = context.rank if rank is None else rank
    return slice(rank * length // context.size, (rank + 1) * length // context.size)


def own_piece(
    context: ContextGroup | None, x: Shaped[Tensor, "batch length *rest"]
) -> Shaped[Tensor, "batch piece *rest"]:
    """Return this rank's piece of sequences that every rank has; all of it without a context.

    Args:
        context: The ranks.
        x: Whole sequences.
    """
    return x if context is None else x[:, piece_bounds(context, x.shape[1])]


def gather_pieces(
    context: ContextGroup, x: Shaped[Tensor, "batch piece *rest"], lengths: Sequence[int]
) -> Shaped[Tensor, "batch length *rest"]:
    """Put the pieces of all ranks together; every rank gets the whole. The gradient is shared out again.

    Args:
        context: The ranks.
        x: This rank's piece.
        lengths: Of all pieces, see `ContextGroup.lengths`.
    """
    missing = max(lengths) - x.shape[1]
    padded = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing)) if missing else x
    parts = gather(context, padded) if x.is_floating_point() or x.is_complex() else context.gather(padded)
    return torch.cat([part[:, :length] for part, length in zip(parts, lengths, strict=True)], dim=1)


class Piece:
    """Where this rank's piece lies in the whole sequence; without a context it is the whole.

    Args:
        context: The ranks. The host waits for the device, to learn how long the others' pieces are.
        x: (batch, piece, ...), any sequences of this rank.
    """

    def __init__(self, context: ContextGroup | None, x: Shaped[Tensor, "batch piece *rest"]) -> None:
        self.context = context
        self.lengths = [x.shape[1]] if context is None else context.lengths(x.shape[1], x.device)
        start = 0 if context is None else sum(self.lengths[: context.rank])
        self.own = slice(start, start + x.shape[1])
        self.total = sum(self.lengths)

    def whole(self, x: Shaped[Tensor, "batch piece *rest"]) -> Shaped[Tensor, "batch length *rest"]:
        """Put the pieces of all ranks together.

        Args:
            x: This rank's.
        """
        return x if self.context is None else gather_pieces(self.context, x, self.lengths)


def mirror_pieces(
    context: ContextGroup, x: Inexact[Tensor, "batch piece *rest"], length: int
) -> Inexact[Tensor, "batch piece *rest"]:
    """Reverse the positions of whole sequences: each rank gets its piece of the reversed ones.

    Args:
        context: The ranks.
        x: This rank's piece, cut as by `own_piece`.
        length: Of the whole sequence.
    """
    return _Mirror.apply(x, context, length)


class _Mirror(torch.autograd.Function):
    """Its own adjoint."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, context: ContextGroup, length: int) -> Tensor:
        ctx.arguments = context, length
        return _mirror(x, context, length)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _mirror(grad, *ctx.arguments), None, None


def _mirror(x: Tensor, context: ContextGroup, length: int) -> Tensor:
    bounds = [piece_bounds(context, length, rank) for rank in range(context.size)]
    own = bounds[context.rank]
    turned = x.flip(1).transpose(0, 1).contiguous()  # positions first: what a rank gets lies in one run
    sent = [_overlap(length - own.stop, length - own.start, each.start, each.stop) for each in bounds]
    found = [_overlap(own.start, own.stop, length - each.stop, length - each.start) for each in bounds]
    y = torch.empty_like(turned)  # pieces of the same rank are equally long
    dist.all_to_all_single(y, turned, found, sent, group=context.group)
    # What the last rank sends comes first in the reversed sequence.
    return torch.cat(y.split(found)[::-1]).transpose(0, 1).contiguous()


def _overlap(start: int, stop: int, other_start: int, other_stop: int) -> int:
    return max(0, min(stop, other_stop) - max(start, other_start))
