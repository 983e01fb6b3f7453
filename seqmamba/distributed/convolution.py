"""The short causal convolution over sequences that ranks share out: pieces get their neighbour's margin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba import ops
from seqmamba.distributed.collectives import gather
from seqmamba.distributed.group import ContextGroup
from seqmamba.distributed.states import processing_order
from seqmamba.errors import UserError


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    context: ContextGroup | None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what `seqmamba.ops.causal_conv1d` does, over all ranks of a context.

    `x` and `reset` are this rank's piece. `initial_state` and the final state are those of the whole
    sequence: every rank gives, and gets, a copy.

    Args:
        x: As there; so are the others.
        weight: As there.
        bias: As there.
        context: The ranks; None: this process alone.
        initial_state: As there.
        return_final_state: As there.
        **options: As there.

    Returns:
        As there.

    Raises:
        UserError: As there, and if a piece is shorter than the margin.
    """
    if context is None:
        states: dict[str, Any] = {"initial_state": initial_state, "return_final_state": return_final_state}
        return ops.causal_conv1d(x, weight, bias, **states, **options)
    reverse, reset, width = options.get("reverse", False), options.get("reset"), weight.shape[1] - 1
    if x.shape[1] < width:
        raise UserError(
            f"x: expected a piece of at least the {width} positions that the convolution looks back, got "
            f"{x.shape[1]}",
            hint="share the sequence out among fewer ranks",
        )
    x, before = _Margin.apply(x, reset, width, reverse, context)
    if initial_state is not None and context.rank == processing_order(context, reverse)[0]:
        before = before + initial_state
    result = ops.causal_conv1d(
        x, weight, bias, initial_state=before, return_final_state=return_final_state, **options
    )
    if isinstance(result, Tensor):
        return result
    y, final = result
    return y, gather(context, final)[processing_order(context, reverse)[-1]]


class _Margin(torch.autograd.Function):
    """x, and the last inputs of the rank before, the latest last; zeros where there is none or a reset.

    The gradient of the margin is added to that of x in place: a slice's own would be as long as x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, reset: Tensor | None, width: int, reverse: bool, context: ContextGroup
    ) -> tuple[Tensor, Tensor]:
        length = x.shape[1]
        ctx.rows = slice(0, width) if reverse else slice(length - width, length)
        ctx.reverse, ctx.context, ctx.keep = reverse, context, None
        margin = x[:, ctx.rows].to(torch.promote_types(x.dtype, torch.float32))
        if reset is not None:
            crossed = reset[:, ctx.rows].long()
            sums = crossed.cumsum(1)
            ctx.keep = (sums if reverse else sums[:, -1:] - sums) == 0  # no sequence starts in between
            margin = margin.masked_fill(~ctx.keep[..., None], 0)
        order = processing_order(context, reverse)
        place = order.index(context.rank)
        ctx.before, ctx.behind = place > 0, place < context.size - 1
        margins = context.gather(margin.flip(1) if reverse else margin)
        before = margins[order[place - 1]] if ctx.before else torch.zeros_like(margin)
        ctx.order, ctx.place = order, place
        return x.view_as(x), before

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_before: Tensor) -> tuple[Tensor, None, None, None, None]:
        found = ctx.context.gather(grad_before)
        if ctx.behind:
            margin = found[ctx.order[ctx.place + 1]]
            margin = margin.flip(1) if ctx.reverse else margin
            if ctx.keep is not None:
                margin = margin.masked_fill(~ctx.keep[..., None], 0)
            grad[:, ctx.rows] += margin.to(grad.dtype)
        return grad, None, None, None, None
