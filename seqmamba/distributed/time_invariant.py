"""Linear time-invariant state spaces over sequences that ranks share out; see `seqmamba.distributed.states`.

The decay of a piece is a power of the transition that all ranks know: its exponent is the piece's length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba import ops
from seqmamba.distributed.collectives import gather, tie
from seqmamba.distributed.group import ContextGroup
from seqmamba.distributed.states import chain, leaves, masked, passes, processing_order
from seqmamba.ops.lti.powers import Powers
from seqmamba.ops.lti.real_view import as_complex, as_real
from seqmamba.ops.selective_scan.reference import compute_dtype, widen


def lti(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    context: ContextGroup | None,
    P: Tensor | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what `seqmamba.ops.lti` does, over all ranks of a context.

    `u` and `reset` are this rank's piece. `initial_state` and the final state are those of the whole
    sequence: every rank gives, and gets, a copy.

    Args:
        u: As there; so are the others.
        delta: As there.
        A: As there.
        B: As there.
        C: As there.
        D: As there.
        context: The ranks; None: this process alone.
        P: As there.
        initial_state: As there.
        return_final_state: As there.
        **options: As there.

    Returns:
        As there.

    Raises:
        UserError: As there.
    """
    if context is None:
        states: dict[str, Any] = {"initial_state": initial_state, "return_final_state": return_final_state}
        return ops.lti(u, delta, A, B, C, D, P=P, **states, **options)
    reverse, reset = options.get("reverse", False), options.get("reset")
    _, own = ops.lti(u, delta, A, B, C, None, P=P, return_final_state=True, **options)
    dtype = compute_dtype(u, delta, A, B, C, D, P, initial_state)
    own = widen(own, dtype)
    discrete = {name: options[name] for name in ("discretisation", "rate") if name in options}
    powers = Powers(ops.lti_discretise(delta, A, B, P=P, dtype=dtype, **discrete))
    lengths = context.lengths(u.shape[1], u.device)
    owns = gather(context, masked(own, leaves(context, reset, reverse)))
    stays = passes(context, reset, reverse)
    stay = None if stays is None else context.gather(stays)

    def step(rank: int, state: Tensor) -> Tensor:
        rows = as_real(state).transpose(0, 1)
        passed = as_complex(powers.advance(rows, lengths[rank]).transpose(0, 1).contiguous())
        return masked(passed, None if stay is None else stay[rank]) + owns[rank]

    start = torch.zeros_like(own) if initial_state is None else widen(initial_state, dtype)
    before = chain(processing_order(context, reverse), start, step)
    y = ops.lti(u, delta, A, B, C, D, P=P, initial_state=tie(before[context.rank], owns), **options)
    assert isinstance(y, Tensor)
    return (y, tie(before[-1], owns)) if return_final_state else y


def bidirectional_lti(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    context: ContextGroup | None,
    **options: Any,
) -> Tensor:
    """Do what `seqmamba.ops.bidirectional_lti` does, over all ranks of a context, one way after the other.

    Args:
        u: As there, this rank's piece; so are the others.
        delta: As there.
        A: As there.
        B: As there.
        C: As there.
        D: As there.
        context: The ranks; None: this process alone.
        **options: As there.

    Returns:
        As there.

    Raises:
        UserError: As there.
    """
    if context is None:
        return ops.bidirectional_lti(u, delta, A, B, C, D, **options)
    forward = lti(u, delta, A, B, C[0], D, context=context, **options)
    reverse = lti(u, delta, A, B, C[1], context=context, reverse=True, **options)
    assert isinstance(forward, Tensor)
    assert isinstance(reverse, Tensor)
    return forward + reverse
