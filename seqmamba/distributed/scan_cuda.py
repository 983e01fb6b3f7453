"""Selective scans over ranks by the CUDA kernels, which cost next to nothing more than without ranks.

The kernels cut a sequence into segments anyway, and begin with what each segment does to a state. From these
follows what the whole piece does to one, which is what ranks have to tell each other; after that the kernels
go on as if the state had come from the segment before. The same holds for gradients in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqmamba.distributed.group import ContextGroup
from seqmamba.distributed.states import chain, leaves, masked, processing_order
from seqmamba.ops.dispatch import cuda_obstacle, refuse_second_derivative
from seqmamba.ops.selective_scan.layout import GPU_STATES

_Direction = tuple[Any, ...]  # u, delta, A, B, C, D, delta_bias
_OPERANDS = 7


def runs_on_kernels(impl: str, u: Tensor, delta: Tensor, A: Tensor, *rest: Tensor | None) -> bool:
    """Tell whether `scan_with_kernels` takes these operands of `seqmamba.ops.selective_scan`.

    Args:
        impl: As there.
        u: As there.
        delta: As there.
        A: As there.
        *rest: As there.
    """
    wanted = impl == "cuda" or (impl == "auto" and _is_on_gpu(u))
    return wanted and A.shape[1] <= GPU_STATES and cuda_obstacle(u, delta, A, *rest) is None


def scan_with_kernels(
    context: ContextGroup,
    directions: Sequence[tuple[_Direction, bool]],
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """Return the sum of one or two scans over all ranks, from zero states, gated.

    Args:
        context: The ranks.
        directions: Of each scan u, delta, A, B, C, D and delta_bias, and whether it runs from right to left.
        z: The gate of all.
        reset: True where a new packed sequence starts.
        delta_softplus: Whether delta goes through softplus, after its bias.
    """
    operands: list[Any] = []
    for (u, delta, A, B, C, D, bias), _ in directions:
        operands += [u, delta, A, *(x[:, :, None] if x.ndim == 3 else x for x in (B, C)), D, bias]
    reverses = tuple(reverse for _, reverse in directions)
    return _ScansOverRanks.apply(context, reverses, delta_softplus, reset, z, *operands)


class _ScansOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        context: ContextGroup,
        reverses: tuple[bool, ...],
        delta_softplus: bool,
        reset: Tensor | None,
        z: Tensor | None,
        *operands: Any,
    ) -> Tensor:
        from seqmamba.ops.bidirectional_scan.cuda import Boundary, add_scans, piece_operands
        from seqmamba.ops.selective_scan.cuda import forward_piece

        ways = _ways(operands, reverses)
        found = [forward_piece(*each) for each in piece_operands(ways, z, reset, delta_softplus)]
        own = [
            masked(torch.stack(parts[:2], dim=1), leaves(context, reset, way.reverse))
            for way, parts in zip(ways, found, strict=True)
        ]
        parts = context.gather(torch.stack(own))  # (ranks, ways, batch, 2, dim, state)
        entries = []
        for number, (way, (_, _, reduced)) in enumerate(zip(ways, found, strict=True)):
            entries.append(Boundary(_arriving(context, parts[:, number], way.reverse), reduced))
        save = any(ctx.needs_input_grad)
        y, saved = add_scans(ways, entries, z, reset, delta_softplus, save)
        if save:
            ctx.save_for_backward(y, parts[:, :, :, 1], reset, z, *saved, *operands)
            ctx.arguments = context, reverses, delta_softplus
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        from seqmamba.ops.bidirectional_scan.cuda import Boundary, add_scans_backward, piece_operands
        from seqmamba.ops.selective_scan.cuda import backward_piece

        refuse_second_derivative("selective_scan")
        context, reverses, delta_softplus = ctx.arguments
        y, decays, reset, z, *rest = ctx.saved_tensors
        saved, operands = rest[: len(reverses)], rest[len(reverses) :]
        ways = _ways(operands, reverses)
        found = [backward_piece(grad_y, *each) for each in piece_operands(ways, z, reset, delta_softplus)]
        gradients = context.gather(torch.stack([own for own, _ in found]))  # (ranks, ways, batch, dim, state)
        entries = []
        for number, (way, (_, reduced)) in enumerate(zip(ways, found, strict=True)):
            parts = torch.stack((gradients[:, number], decays[:, number]), dim=2)
            # A gradient passes the ranks the other way round.
            arriving = _arriving(context, parts, not way.reverse)
            entries.append(Boundary(masked(arriving, leaves(context, reset, way.reverse)), reduced))
        grads = add_scans_backward(grad_y, y, saved, ways, entries, z, reset, delta_softplus)
        *of_operands, d_z = (
            None if x is None else grad for x, grad in zip((*operands, z), grads, strict=True)
        )
        return (None, None, None, None, d_z, *of_operands)


def _is_on_gpu(x: Tensor) -> bool:
    return x.is_cuda


def _ways(operands: Sequence[Any], reverses: Sequence[bool]) -> list[Any]:
    from seqmamba.ops.bidirectional_scan.cuda import Way

    return [
        Way(list(operands[_OPERANDS * i : _OPERANDS * (i + 1)]), reverse)
        for i, reverse in enumerate(reverses)
    ]


def _arriving(context: ContextGroup, parts: Tensor, reverse: bool) -> Tensor:
    """What arrives at this rank, given what each rank adds and leaves: (ranks, batch, 2, dim, state)."""
    start = torch.zeros_like(parts[0, :, 0])
    states = chain(
        processing_order(context, reverse),
        start,
        lambda rank, state: parts[rank, :, 1] * state + parts[rank, :, 0],
    )
    return states[context.rank]
