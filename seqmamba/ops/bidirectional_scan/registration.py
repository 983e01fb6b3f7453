"""The bidirectional scan as PyTorch operators: the only file of the folder that touches torch.library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.dispatch import refuse_second_derivative
from seqmamba.ops.selective_scan.registration import input_dtype, saved_buffer

Direction = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
"""u, delta, A, B, C, D, delta_bias of one direction; B and C with their group axis."""

_OPERANDS = 7
SEQUENCES = (0, 1, 3, 4)
"""Which operands of a direction are sequences."""
_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(
    "bidirectional_scan_forward(Tensor?[] forward, Tensor?[] reverse, Tensor? z, Tensor? reset, "
    "bool delta_softplus, bool save) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "bidirectional_scan_backward(Tensor grad_y, Tensor y, Tensor saved_forward, Tensor saved_reverse, "
    "Tensor?[] forward, Tensor?[] reverse, Tensor? z, Tensor? reset, bool delta_softplus) -> Tensor[]"
)


def common_dtype(*directions: list[Any], z: Tensor | None) -> torch.dtype:
    """The dtype in which all scans read their sequences."""
    sequences = [operands[i] for operands in directions for i in SEQUENCES]
    return input_dtype(*sequences, z)


@torch.library.impl(_LIBRARY, "bidirectional_scan_forward", "CUDA")
def _forward_cuda(
    forward: list[Any],
    reverse: list[Any],
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from seqmamba.ops.bidirectional_scan.cuda import forward as run

    return run(forward, reverse, z, reset, delta_softplus, save)


@torch.library.impl(_LIBRARY, "bidirectional_scan_backward", "CUDA")
def _backward_cuda(
    grad_y: Tensor,
    y: Tensor,
    saved_forward: Tensor,
    saved_reverse: Tensor,
    forward: list[Any],
    reverse: list[Any],
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    from seqmamba.ops.bidirectional_scan.cuda import backward as run

    return run(grad_y, y, (saved_forward, saved_reverse), forward, reverse, z, reset, delta_softplus)


@torch.library.register_fake("seqmamba::bidirectional_scan_forward", lib=_LIBRARY)
def _forward_fake(forward: list[Any], reverse: list[Any], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    n_state, save = forward[2].shape[1], rest[-1]
    dtype = common_dtype(forward, reverse, z=rest[0])
    saved = (saved_buffer(operands[0], n_state, save, dtype) for operands in (forward, reverse))
    return forward[0].new_empty(forward[0].shape), *saved


@torch.library.register_fake("seqmamba::bidirectional_scan_backward", lib=_LIBRARY)
def _backward_fake(
    grad_y: Tensor,
    y: Tensor,
    saved_forward: Tensor,
    saved_reverse: Tensor,
    forward: list[Any],
    reverse: list[Any],
    *rest: Any,
) -> list[Tensor]:
    return [grad_y.new_empty(0) if x is None else x.new_empty(x.shape) for x in (*forward, *reverse, rest[0])]


class _BidirectionalScan(torch.autograd.Function):
    """Ties the two operators together; takes the operands of both directions, z, reset and delta_softplus."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *operands, z, reset, delta_softplus = arguments
        forward, reverse = operands[:_OPERANDS], operands[_OPERANDS:]
        y, *saved = torch.ops.seqmamba.bidirectional_scan_forward(
            forward, reverse, z, reset, delta_softplus, True
        )
        ctx.save_for_backward(y, *saved, *operands, z, reset)
        ctx.delta_softplus = delta_softplus
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("bidirectional_scan")
        y, saved_forward, saved_reverse, *operands, z, reset = ctx.saved_tensors
        forward, reverse = operands[:_OPERANDS], operands[_OPERANDS:]
        grads = torch.ops.seqmamba.bidirectional_scan_backward(
            grad_y, y, saved_forward, saved_reverse, forward, reverse, z, reset, ctx.delta_softplus
        )
        present = (None if x is None else grad for x, grad in zip((*operands, z), grads, strict=True))
        return (*present, None, None)


def bidirectional_scan_cuda(
    forward: Direction, reverse: Direction, z: Tensor | None, reset: Tensor | None, delta_softplus: bool
) -> Tensor:
    """Run the registered operator, saving states for the backward only if a gradient can be asked for."""
    tensors = (*forward, *reverse, z)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _BidirectionalScan.apply(*tensors, reset, delta_softplus)
    run = torch.ops.seqmamba.bidirectional_scan_forward
    return run(list(forward), list(reverse), z, reset, delta_softplus, False)[0]
