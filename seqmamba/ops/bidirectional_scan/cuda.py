"""The bidirectional scan on NVIDIA GPUs: the second scan adds to what the first has written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.bidirectional_scan.registration import SEQUENCES, common_dtype
from seqmamba.ops.selective_scan import cuda

_Operands = list[Any]  # u, delta, A, B, C, D, delta_bias


def forward(
    forward: _Operands,
    reverse: _Operands,
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan both ways; returns y, and the states that each scan saves for `backward`.

    Args:
        forward: u, delta, A, B, C, D, delta_bias of the scan from left to right.
        reverse: Those of the scan from right to left.
        z: (batch, length, dim), or None.
        reset: (batch, length) bool, or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        save: Whether to save states.
    """
    dtype = common_dtype(forward, reverse, z)
    y, saved = None, []
    for operands, right_to_left in ((forward, False), (reverse, True)):
        *most, bias = _cast(operands, dtype)
        gate = None if z is None else z.to(dtype)
        arguments = (*most, gate, bias, None, reset, delta_softplus, right_to_left, save, y)
        y, _, states = cuda.forward(*arguments)
        saved.append(states)
    assert y is not None
    return y.to(forward[0].dtype), saved[0], saved[1]


def backward(
    grad_y: Tensor,
    y: Tensor,
    saved: tuple[Tensor, Tensor],
    forward: _Operands,
    reverse: _Operands,
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    """Gradients of the operands of both directions, in their order, and of z; empty where one is absent."""
    dtype = common_dtype(forward, reverse, z)
    from_both = cuda.undoes_gate(dtype)  # y is the sum, so one scan finds the whole gradient of the gate
    gate = None if z is None else z.to(dtype)
    gradients: list[Tensor] = []
    d_z = None
    for states, operands, right_to_left in ((saved[0], forward, False), (saved[1], reverse, True)):
        *most, bias = _cast(operands, dtype)
        wanted = z is not None and (right_to_left or not from_both)
        arguments = (*most, gate, bias, reset, delta_softplus, right_to_left)
        grads = cuda.backward(grad_y, None, y, states, *arguments, gate_gradient=wanted, add_to=d_z)
        *of_most, d_gate, d_bias, _ = grads
        given = [None if x is None else x.dtype for x in operands]
        gradients += [g if d is None else g.to(d) for g, d in zip((*of_most, d_bias), given, strict=True)]
        d_z = d_gate if wanted else None
    return [*gradients, grad_y.new_empty(0) if z is None or d_z is None else d_z.to(z.dtype)]


def _cast(operands: _Operands, dtype: torch.dtype) -> _Operands:
    return [x.to(dtype) if i in SEQUENCES else x for i, x in enumerate(operands)]
