"""The selective scan one step at a time: the specification of the operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}  # to_complex does not compile


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The real dtype of states and sums: float64 if any argument is that wide, else float32."""
    wide = (torch.float64, torch.complex128)
    return torch.float64 if any(x is not None and x.dtype in wide for x in tensors) else torch.float32


def widen(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert `x` to the real `dtype`, or if it is complex to the complex dtype of that precision."""
    return x.to(_COMPLEX[dtype] if x.is_complex() else dtype)


def step_size(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool, dtype: torch.dtype) -> Tensor:
    """Delta after its bias and softplus, in `dtype`."""
    delta = delta.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)
    return F.softplus(delta) if delta_softplus else delta


def spread_groups(x: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Give each channel its group's projection: (..., groups, state) -> (..., dim, state).

    That of a single group serves all channels as it is, (..., 1, state).
    """
    wide, groups = widen(x, dtype), x.shape[-2]
    return wide if groups == 1 else wide.repeat_interleave(dim // groups, dim=-2)


def read_out(C: Tensor, state: Tensor) -> Tensor:
    """C . h over the state axis; 2 Re(C . h) for a complex state, which stands for itself and its conjugate.

    The factor follows S4D (Gu et al. 2022, https://arxiv.org/abs/2206.11893, section 3.3).
    """
    y = (C * state).sum(-1)
    return 2 * y.real if y.is_complex() else y


def keep_previous(reset: Tensor, reverse: bool) -> Tensor:
    """(batch, length) bool: whether step t continues from the step processed just before it.

    `reset[b, t]` starts a packed sequence at storage position t. Scanning left to right, h_{t-1} is dropped
    at t; right to left, h_{t+1} is dropped at t where reset[t+1]: the same boundary from its other side.
    """
    if not reverse:
        return ~reset
    return F.pad(~reset[:, 1:], (0, 1), value=True)


def selective_scan_reference(
    u: Tensor,
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
) -> tuple[Tensor, Tensor]:
    """Run h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = (C_t . h_t + D u_t) silu(z_t) step by step.

    Equation 2 of the Mamba paper, discretised as its published code does: zero-order hold for A, Euler for B.

    Args:
        u: (batch, length, dim).
        delta: (batch, length, dim).
        A: (dim, state), real or complex.
        B: (batch, length, groups, state).
        C: (batch, length, groups, state).
        D: (dim,) or None.
        z: (batch, length, dim) or None.
        delta_bias: (dim,) or None.
        initial_state: (batch, dim, state) or None for zeros.
        reset: (batch, length) bool or None.
        delta_softplus: Whether delta goes through softplus, after its bias.
        reverse: Scan from right to left.

    Returns:
        y (batch, length, dim) in u's dtype, and the state (batch, dim, state) after the last processed step.
    """
    dtype = compute_dtype(u, delta, A, B, C, D, z, delta_bias, initial_state)
    batch, length, dim = u.shape
    x, dt, A = u.to(dtype), step_size(delta, delta_bias, delta_softplus, dtype), widen(A, dtype)
    B, C = spread_groups(B, dim, dtype), spread_groups(C, dim, dtype)
    if initial_state is None:
        state = A.new_zeros(batch, dim, A.shape[1])
    else:
        state = widen(initial_state, dtype).to(A.dtype)
    keep = None if reset is None else keep_previous(reset, reverse)[:, :, None, None].unbind(1)

    # unbind, not indexing: the gradient of an index is a zero-filled copy of the sequence, every step
    steps = list(zip(x[..., None].unbind(1), dt[..., None].unbind(1), B.unbind(1), C.unbind(1), strict=True))
    outputs: list[Tensor] = []
    for t in reversed(range(length)) if reverse else range(length):
        x_t, dt_t, B_t, C_t = steps[t]
        if keep is not None:
            state = torch.where(keep[t], state, 0)
        state = torch.exp(dt_t * A) * state + dt_t * B_t * x_t
        outputs.append(read_out(C_t, state))
    y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)
    return finish(y, x, D, z, u.dtype), state


def finish(y: Tensor, x: Tensor, D: Tensor | None, z: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Add the skip D x, gate by silu(z) and round to `dtype`."""
    if D is not None:
        y = y + D.to(y.dtype) * x
    if z is not None:
        y = y * F.silu(z.to(y.dtype))
    return y.to(dtype)
