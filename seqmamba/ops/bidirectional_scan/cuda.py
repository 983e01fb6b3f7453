"""Scans that add up, on NVIDIA GPUs: the second one adds to what the first has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqmamba.ops.bidirectional_scan.registration import SEQUENCES, common_dtype
from seqmamba.ops.selective_scan import cuda
from seqmamba.ops.selective_scan.cuda_carry import Reduced

_Operands = list[Any]  # u, delta, A, B, C, D, delta_bias


class Way(NamedTuple):
    """One of the scans.

    Attributes:
        operands: u, delta, A, B, C, D, delta_bias.
        reverse: Whether it runs from right to left.
    """

    operands: _Operands
    reverse: bool


class Boundary(NamedTuple):
    """What comes to a scan from outside its sequence.

    Attributes:
        state: The initial state, or in the backward pass the gradient of the final one, (batch, dim, state).
        reduced: What `cuda.forward_piece` or `cuda.backward_piece` has found.
    """

    state: Tensor | None
    reduced: Reduced | None


_NOTHING = Boundary(None, None)


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
    ways = [Way(forward, False), Way(reverse, True)]
    y, saved = add_scans(ways, [_NOTHING] * 2, z, reset, delta_softplus, save)
    return y, saved[0], saved[1]


def add_scans(
    ways: Sequence[Way],
    entries: Sequence[Boundary],
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    save: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Return the sum of one or two scans, gated, and the states that each saves; see `forward`.

    Args:
        ways: The scans.
        entries: What is known of their initial states.
        z: As there.
        reset: As there.
        delta_softplus: As there.
        save: As there.
    """
    dtype = common_dtype(*(way.operands for way in ways), z=z)
    gate = None if z is None else z.to(dtype)
    y, saved = None, []
    for way, entry in zip(ways, entries, strict=True):
        *most, bias = _cast(way.operands, dtype)
        options = (reset, delta_softplus, way.reverse, save, y, entry.reduced)
        arguments = (*most, gate, bias, entry.state, *options)
        y, _, states = cuda.forward(*arguments)
        saved.append(states)
    assert y is not None
    return y.to(ways[0].operands[0].dtype), saved


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
    ways = [Way(forward, False), Way(reverse, True)]
    return add_scans_backward(grad_y, y, saved, ways, [_NOTHING] * 2, z, reset, delta_softplus)


def add_scans_backward(
    grad_y: Tensor,
    y: Tensor,
    saved: Sequence[Tensor],
    ways: Sequence[Way],
    entries: Sequence[Boundary],
    z: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    """Gradients of the operands of all ways, in their order, and of z; empty where one is absent.

    Args:
        grad_y: (batch, length, dim).
        y: What `add_scans` returned.
        saved: What it saved.
        ways: The scans.
        entries: What is known of the gradients of their final states.
        z: As `add_scans` takes it.
        reset: As there.
        delta_softplus: As there.
    """
    dtype = common_dtype(*(way.operands for way in ways), z=z)
    from_sum = cuda.undoes_gate(dtype)  # y is the sum, so one scan finds the whole gradient of the gate
    gate = None if z is None else z.to(dtype)
    gradients: list[Tensor] = []
    d_z = None
    for number, (way, entry, states) in enumerate(zip(ways, entries, saved, strict=True)):
        wanted = z is not None and (number == len(ways) - 1 or not from_sum)
        options = (gate, reset, delta_softplus, wanted, d_z, entry)
        of_way, d_gate = way_backward(grad_y, y, states, way, dtype, *options)
        gradients += of_way
        d_z = d_gate if wanted else None
    return [*gradients, grad_y.new_empty(0) if z is None or d_z is None else d_z.to(z.dtype)]


def way_backward(
    grad_y: Tensor,
    y: Tensor,
    states: Tensor,
    way: Way,
    dtype: torch.dtype,
    gate: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    gate_gradient: bool,
    add_to: Tensor | None = None,
    entry: Boundary = _NOTHING,
) -> tuple[list[Tensor], Tensor]:
    """Gradients of the operands of one way, in their order, and of the gate, empty unless wanted.

    Args:
        grad_y: (batch, length, dim).
        y: What `add_scans` returned.
        states: What this way saved.
        way: The scan.
        dtype: In which all ways read their sequences; the gate has it.
        gate: z, or None.
        reset: As `add_scans` takes it.
        delta_softplus: As there.
        gate_gradient: Whether to compute the gradient of the gate, which of most dtypes is that of the sum.
        add_to: See `cuda.backward`.
        entry: What is known of the gradient of the final state.
    """
    *most, bias = _cast(way.operands, dtype)
    arguments = (*most, gate, bias, reset, delta_softplus, way.reverse)
    *of_most, d_gate, d_bias, _ = cuda.backward(
        grad_y,
        entry.state,
        y,
        states,
        *arguments,
        gate_gradient=gate_gradient,
        add_to=add_to,
        reduced=entry.reduced,
    )
    given = [None if x is None else x.dtype for x in way.operands]
    return [g if d is None else g.to(d) for g, d in zip((*of_most, d_bias), given, strict=True)], d_gate


def piece_operands(
    ways: Sequence[Way], z: Tensor | None, reset: Tensor | None, delta_softplus: bool
) -> list[tuple[Any, ...]]:
    """Return of each way what `cuda.forward_piece` takes, as `add_scans` reads it.

    Args:
        ways: The scans.
        z: As `add_scans` takes it.
        reset: As there.
        delta_softplus: As there.
    """
    dtype = common_dtype(*(way.operands for way in ways), z=z)
    gate = None if z is None else z.to(dtype)
    found = []
    for way in ways:
        *most, bias = _cast(way.operands, dtype)
        found.append((*most, gate, bias, reset, delta_softplus, way.reverse))
    return found


def _cast(operands: _Operands, dtype: torch.dtype) -> _Operands:
    return [x.to(dtype) if i in SEQUENCES else x for i, x in enumerate(operands)]
