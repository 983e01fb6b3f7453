"""The bidirectional scan on NVIDIA GPUs: the second scan adds to what the first has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seqmamba.ops.selective_scan import cuda
from seqmamba.ops.selective_scan.registration import input_dtype

_Operands = Sequence[Tensor | None]


def forward(
    forward: _Operands,
    reverse: _Operands,
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y of both directions, and the states that each saves for `backward`.

    Args:
        forward: u, delta, A, B, C, D, delta_bias of the scan from left to right.
        reverse: Those of the scan from right to left.
        z: (batch, length, dim), or None.
        reset: (batch, length) bool, or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        save: Whether to save states.
    """
    rest = (None, reset, delta_softplus)
    y, _, saved_forward = cuda.forward(*_in_order(forward, z, *rest, False, save))
    y, _, saved_reverse = cuda.forward(*_in_order(reverse, z, *rest, True, save, y))
    return y, saved_forward, saved_reverse


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
    gradients: list[Tensor] = []
    whole = cuda.undoes_gate(input_dtype(*(operands[i] for operands in (forward, reverse) for i in (0, 1, 3, 4)), z))
    d_z = None
    for states, operands, right_to_left in ((saved[0], forward, False), (saved[1], reverse, True)):
        in_order, last = _in_order(operands, z), operands is reverse
        *most, d_D, of_gate, d_bias, _ = cuda.backward(
            grad_y,
            None,
            y,
            states,
            *in_order,
            reset,
            delta_softplus,
            right_to_left,
            gate_gradient=z is not None and (last or not whole),
            add_to=d_z,
        )
        gradients += [*most, d_D, d_bias]
        d_z = None if z is None or (whole and not last) else of_gate
    return [*gradients, grad_y.new_empty(0) if d_z is None else d_z]


def _in_order(operands: _Operands, z: Tensor | None, *rest: Any) -> tuple[Any, ...]:
    *most, bias = operands
    return (*most, z, bias, *rest)
