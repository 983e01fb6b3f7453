"""What ranks tell each other, with gradients.

The function that is differentiated is that of all ranks together: the sum of their losses. So what a rank
receives from another sends its gradient back there, and a tensor of which every rank has a copy has as
gradient the sum of those of the copies.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Inexact, Shaped
from torch import Tensor

from seqmamba.distributed.group import ContextGroup


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, context: ContextGroup) -> Tensor:
        ctx.context = context
        return context.gather(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.context.sum_of_parts(grad), None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, context: ContextGroup) -> Tensor:
        ctx.context = context
        return context.sum(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.context.sum(grad), None


class _Tie(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gathered: Tensor) -> Tensor:
        ctx.like = gathered.shape, gathered.dtype
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        shape, dtype = ctx.like
        return grad, grad.new_zeros((), dtype=dtype).expand(shape)


def gather(context: ContextGroup, x: Inexact[Tensor, "*shape"]) -> Inexact[Tensor, ranks * shape]:
    """Return what every rank has; shapes and dtypes are the same everywhere.

    Every rank must use the result, or `tie` what it uses to it: the ranks meet in the backward pass, too.

    Args:
        context: The ranks.
        x: This rank's.
    """
    return _Gather.apply(x, context)


def total(context: ContextGroup, x: Inexact[Tensor, "*shape"]) -> Inexact[Tensor, "*shape"]:
    """Return the sum over the ranks, of which every rank has a copy.

    Args:
        context: The ranks.
        x: This rank's.
    """
    return _Sum.apply(x, context)


def tie(x: Shaped[Tensor, "*shape"], gathered: Shaped[Tensor, "*any"]) -> Shaped[Tensor, "*shape"]:
    """Return x such that its gradient reaches `gathered`, with zeros.

    The first rank needs nothing of the others, but must still take part in the backward pass of `gather`.

    Args:
        x: What a rank uses.
        gathered: What `gather` returned.
    """
    return _Tie.apply(x, gathered)
