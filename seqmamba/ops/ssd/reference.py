"""The state space dual operator one step at a time: its specification."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.ops.selective_scan.reference import (
    compute_dtype,
    finish,
    keep_previous,
    spread_groups,
    step_size,
)


def per_channel(D: Tensor | None) -> Tensor | None:
    """The skip with an axis for head_dim: (heads,) -> (heads, 1); (heads, head_dim) stays."""
    return D[:, None] if D is not None and D.ndim == 1 else D


def first_state(initial_state: Tensor | None, x: Tensor, n_state: int) -> Tensor:
    """The state before the first processed step, (batch, heads, head_dim, state) in the dtype of `x`."""
    if initial_state is not None:
        return initial_state.to(x.dtype)
    return x.new_zeros(x.shape[0], x.shape[2], x.shape[3], n_state)


def ssd_reference(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Run h_t = exp(delta_t A) h_{t-1} + delta_t x_t B_t^T, y_t = (h_t C_t + D x_t) silu(z_t) step by step.

    Section 2 of the Mamba-2 paper: the selective scan with one decay a head.

    Args:
        x: (batch, length, heads, head_dim).
        delta: (batch, length, heads).
        A: (heads,).
        B: (batch, length, groups, state).
        C: (batch, length, groups, state).
        D: (heads,), (heads, head_dim) or None.
        z: (batch, length, heads, head_dim) or None.
        delta_bias: (heads,) or None.
        initial_state: (batch, heads, head_dim, state) or None for zeros.
        reset: (batch, length) bool or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        reverse: Run from right to left.
        chunk_size: Of no meaning here.

    Returns:
        y (batch, length, heads, head_dim) in x's dtype, and the state (batch, heads, head_dim, state) after
        the last processed step.
    """
    dtype = compute_dtype(x, delta, A, B, C, D, z, delta_bias, initial_state)
    length, heads = x.shape[1:3]
    wide, dt = x.to(dtype), step_size(delta, delta_bias, delta_softplus, dtype)
    decay, scaled = torch.exp(dt * A.to(dtype)), dt[..., None] * wide
    B, C = spread_groups(B, heads, dtype), spread_groups(C, heads, dtype)
    state = first_state(initial_state, wide, B.shape[-1])
    keep = None if reset is None else keep_previous(reset, reverse)[:, :, None, None, None].unbind(1)

    # unbind, not indexing: the gradient of an index is a zero-filled copy of the sequence, every step
    steps = list(zip(scaled.unbind(1), decay.unbind(1), B.unbind(1), C.unbind(1), strict=True))
    outputs: list[Tensor] = []
    for t in reversed(range(length)) if reverse else range(length):
        x_t, decay_t, B_t, C_t = steps[t]
        if keep is not None:
            state = torch.where(keep[t], state, 0)
        state = decay_t[..., None, None] * state + x_t[..., None] * B_t[:, :, None]
        outputs.append((state * C_t[:, :, None]).sum(-1))
    y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)
    return finish(y, wide, per_channel(D), z, x.dtype), state
