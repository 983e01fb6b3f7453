"""The selective scan of Mamba over sequences that ranks share out; see `seqmamba.distributed.states`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba import ops
from seqmamba.distributed.collectives import gather, tie
from seqmamba.distributed.group import ContextGroup
from seqmamba.distributed.scan_cuda import runs_on_kernels, scan_with_kernels
from seqmamba.distributed.states import chain, leaves, masked, passes, processing_order
from seqmamba.ops.selective_scan.reference import compute_dtype, step_size, widen

Pair = tuple[Tensor, Tensor]
_NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    context: ContextGroup | None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    reset: Tensor | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what `seqmamba.ops.selective_scan` does, over all ranks of a context.

    Sequences and `reset` are this rank's piece. `initial_state` and the final state are those of the whole
    sequence: every rank gives, and gets, a copy.

    Args:
        u: As there; so are the others.
        delta: As there.
        A: As there.
        B: As there.
        C: As there.
        D: As there.
        z: As there.
        delta_bias: As there.
        context: The ranks; None: this process alone.
        delta_softplus: As there.
        initial_state: As there.
        return_final_state: As there.
        reverse: As there.
        reset: As there.
        impl: As there.

    Returns:
        As there.

    Raises:
        UserError: As there.
    """
    options: dict[str, Any] = {
        "delta_softplus": delta_softplus,
        "reverse": reverse,
        "reset": reset,
        "impl": impl,
    }
    if context is None:
        states: dict[str, Any] = {"initial_state": initial_state, "return_final_state": return_final_state}
        return ops.selective_scan(u, delta, A, B, C, D, z, delta_bias, **states, **options)
    if (
        initial_state is None
        and not return_final_state
        and runs_on_kernels(impl, u, delta, A, B, C, D, z, delta_bias)
    ):
        direction = (u, delta, A, B, C, D, delta_bias)
        return scan_with_kernels(context, [(direction, reverse)], z, reset, delta_softplus)
    before, behind = _states(context, (u, delta, A, B, C, delta_bias), initial_state, options)
    y = ops.selective_scan(u, delta, A, B, C, D, z, delta_bias, initial_state=before, **options)
    assert isinstance(y, Tensor)
    return (y, behind) if return_final_state else y


def bidirectional_scan(
    u: Pair,
    delta: Pair,
    A: Pair,
    B: Pair,
    C: Pair,
    D: tuple[Tensor | None, Tensor | None] = (None, None),
    z: Tensor | None = None,
    delta_bias: tuple[Tensor | None, Tensor | None] = (None, None),
    *,
    context: ContextGroup | None,
    delta_softplus: bool = False,
    reset: Tensor | None = None,
) -> Tensor:
    """Do what `seqmamba.ops.bidirectional_scan` does, over all ranks of a context.

    Args:
        u: As there, this rank's piece; so are the others.
        delta: As there.
        A: As there.
        B: As there.
        C: As there.
        D: As there.
        z: As there.
        delta_bias: As there.
        context: The ranks; None: this process alone.
        delta_softplus: As there.
        reset: As there.

    Returns:
        As there.

    Raises:
        UserError: As there.
    """
    options: dict[str, Any] = {"delta_softplus": delta_softplus, "reset": reset}
    if context is None:
        return ops.bidirectional_scan(u, delta, A, B, C, D, z, delta_bias, **options)
    directions = list(zip(u, delta, A, B, C, D, delta_bias, strict=True))
    if all(runs_on_kernels("auto", *direction, z) for direction in directions):
        both = list(zip(directions, (False, True), strict=True))
        return scan_with_kernels(context, both, z, reset, delta_softplus)
    ys = []
    for direction, reverse in zip(directions, (False, True), strict=True):
        way: dict[str, Any] = dict(zip(_NAMES, direction, strict=True))
        y = selective_scan(**way, z=z, context=context, reverse=reverse, **options)
        assert isinstance(y, Tensor)
        ys.append(y)
    return ys[0] + ys[1]


def _states(
    context: ContextGroup,
    operands: tuple[Any, ...],
    initial: Tensor | None,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return the state before this rank's piece, and that behind the sequence."""
    u, delta, A, B, C, bias = operands
    reverse, reset = options["reverse"], options["reset"]
    _, own = ops.selective_scan(u, delta, A, B, C, None, None, bias, return_final_state=True, **options)
    dtype = compute_dtype(u, delta, A, B, C, bias, initial)
    own = widen(own, dtype)
    elapsed = step_size(delta, bias, options["delta_softplus"], dtype).sum(dim=1)
    decay = torch.exp(elapsed[..., None] * widen(A, dtype))
    stays, out = passes(context, reset, reverse), leaves(context, reset, reverse)
    parts = gather(context, torch.stack((masked(own, out), masked(decay, stays))))
    start = torch.zeros_like(own) if initial is None else widen(initial, dtype).to(own.dtype)
    states = chain(
        processing_order(context, reverse), start, lambda rank, state: parts[rank, 1] * state + parts[rank, 0]
    )
    return tie(states[context.rank], parts), tie(states[-1], parts)
