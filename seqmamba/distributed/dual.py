"""The scan of Mamba-2 over sequences that ranks share out; see `seqmamba.distributed.states`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba import ops
from seqmamba.distributed.collectives import gather, tie
from seqmamba.distributed.group import ContextGroup
from seqmamba.distributed.states import chain, leaves, masked, passes, processing_order
from seqmamba.ops.selective_scan.reference import compute_dtype, step_size


def ssd(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    context: ContextGroup | None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Do what `seqmamba.ops.ssd` does, over all ranks of a context.

    Sequences and `reset` are this rank's piece. `initial_state` and the final state are those of the whole
    sequence: every rank gives, and gets, a copy.

    Args:
        x: As there; so are the others.
        delta: As there.
        A: As there.
        B: As there.
        C: As there.
        D: As there.
        z: As there.
        delta_bias: As there.
        context: The ranks; None: this process alone.
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
        return ops.ssd(x, delta, A, B, C, D, z, delta_bias, **states, **options)
    reverse, reset = options.get("reverse", False), options.get("reset")
    _, own = ops.ssd(x, delta, A, B, C, None, None, delta_bias, return_final_state=True, **options)
    dtype = compute_dtype(x, delta, A, B, C, delta_bias, initial_state)
    own = own.to(dtype)
    elapsed = step_size(delta, delta_bias, options.get("delta_softplus", False), dtype).sum(dim=1)
    stays, out = passes(context, reset, reverse), leaves(context, reset, reverse)
    decays = gather(context, masked(torch.exp(elapsed * A.to(dtype)), stays))
    owns = gather(context, masked(own, out))
    start = torch.zeros_like(own) if initial_state is None else initial_state.to(dtype)
    before = chain(
        processing_order(context, reverse),
        start,
        lambda rank, state: decays[rank, ..., None, None] * state + owns[rank],
    )
    tied = [tie(tie(before[place], owns), decays) for place in (context.rank, -1)]
    y = ops.ssd(x, delta, A, B, C, D, z, delta_bias, initial_state=tied[0], **options)
    assert isinstance(y, Tensor)
    return (y, tied[1]) if return_final_state else y
