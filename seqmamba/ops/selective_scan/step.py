"""One step of the selective scan, for generation token by token."""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.decay import decay_rate
from seqmamba.ops.dispatch import triton_obstacle
from seqmamba.ops.selective_scan.reference import (
    compute_dtype,
    finish,
    read_out,
    spread_groups,
    step_size,
    widen,
)
from seqmamba.ops.selective_scan.step_registration import selective_state_step_registered
from seqmamba.ops.validation import check_axes, check_shape, check_tensors

_NAME = "selective_state_step"
_LARGEST_STATE = 1024  # of a channel: the kernel holds it in registers


def selective_state_step(
    state: Inexact[Tensor, "batch dim state"],
    u: Float[Tensor, "batch dim"],
    delta: Float[Tensor, "batch dim"],
    A: Inexact[Tensor, "dim state"],
    B: Inexact[Tensor, "batch *groups state"],
    C: Inexact[Tensor, "batch *groups state"],
    D: Float[Tensor, " dim"] | None = None,
    z: Float[Tensor, "batch dim"] | None = None,
    delta_bias: Float[Tensor, " dim"] | None = None,
    *,
    delta_softplus: bool = False,
    A_is_log: bool = False,
) -> tuple[Float[Tensor, "batch dim"], Inexact[Tensor, "batch dim state"]]:
    """Advance the recurrence of `selective_scan` by one step; by default nothing is changed in place.

    Without gradients, real arguments on an NVIDIA GPU take one Triton kernel; otherwise PyTorch computes it.
    Inside `updating_states_in_place` that kernel changes `state` and returns it.

    Args:
        state: State before the step, float32 (complex where A is).
        u: Input.
        delta: Step size, before bias and softplus.
        A: State matrix, real or complex; or with `A_is_log` the logarithm of the decay rate, -A.
        B: Input projection, (batch, state) or (batch, groups, state).
        C: Output projection, (batch, state) or (batch, groups, state).
        D: Skip weight.
        z: Gate.
        delta_bias: Added to delta.
        delta_softplus: Whether delta goes through softplus, after its bias.
        A_is_log: Whether to compute `decay_rate(A)` first, which on a GPU costs nothing here and three
            kernels outside.

    Returns:
        y in u's dtype, and the state after the step.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    check_axes(_NAME, "u", u, ("batch", "dim"))
    check_axes(_NAME, "A", A, ("dim", "state"))
    (batch, dim), n_state = u.shape, A.shape[1]
    channels = {"batch": batch, "dim": dim}
    check_shape(_NAME, "state", state, {**channels, "state": n_state})
    check_shape(_NAME, "delta", delta, channels)
    check_shape(_NAME, "A", A, {"dim": dim, "state": n_state})
    B, C = B[:, None] if B.ndim == 2 else B, C[:, None] if C.ndim == 2 else C
    check_shape(_NAME, "B", B, {"batch": batch, "groups": B.shape[1], "state": n_state})
    check_shape(_NAME, "C", C, {"batch": batch, "groups": B.shape[1], "state": n_state})
    for name, tensor, shape in (
        ("D", D, {"dim": dim}),
        ("z", z, channels),
        ("delta_bias", delta_bias, {"dim": dim}),
    ):
        if tensor is not None:
            check_shape(_NAME, name, tensor, shape)
    tensors = {"u": u, "state": state, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    check_tensors(_NAME, {**tensors, "delta_bias": delta_bias}, complex_allowed=("state", "A", "B", "C"))

    if dim % B.shape[1]:
        raise UserError(f"{_NAME}: the groups of B and C must divide dim={dim}, got {B.shape[1]}")
    operands = (state, u, delta, A, B, C, D, z, delta_bias)
    differentiable = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands)
    if n_state <= _LARGEST_STATE and not differentiable and triton_obstacle(*operands) is None:
        return selective_state_step_registered(*operands, delta_softplus, A_is_log)

    if A_is_log:
        A = decay_rate(A)
    dtype = compute_dtype(*tensors.values(), delta_bias)
    x, dt, A = u.to(dtype), step_size(delta, delta_bias, delta_softplus, dtype)[..., None], widen(A, dtype)
    B, C = spread_groups(B, dim, dtype), spread_groups(C, dim, dtype)
    state = torch.exp(dt * A) * widen(state, dtype) + (dt * x[..., None]) * B
    return finish(read_out(C, state), x, D, z, u.dtype), state
