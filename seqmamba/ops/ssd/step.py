"""One step of the state space dual operator, for generation token by token."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.decay import decay_rate
from seqmamba.ops.dispatch import triton_obstacle
from seqmamba.ops.selective_scan.reference import compute_dtype, finish, spread_groups, step_size
from seqmamba.ops.ssd.reference import per_channel
from seqmamba.ops.ssd.registration import ssd_step_triton
from seqmamba.ops.validation import check_axes, check_shape, check_tensors

_NAME = "ssd_state_step"


def ssd_state_step(
    state: Float[Tensor, "batch heads head_dim state"],
    x: Float[Tensor, "batch heads head_dim"],
    delta: Float[Tensor, "batch heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch *groups state"],
    C: Float[Tensor, "batch *groups state"],
    D: Float[Tensor, "heads ..."] | None = None,
    z: Float[Tensor, "batch heads head_dim"] | None = None,
    delta_bias: Float[Tensor, " heads"] | None = None,
    *,
    delta_softplus: bool = False,
    A_is_log: bool = False,
) -> tuple[Float[Tensor, "batch heads head_dim"], Float[Tensor, "batch heads head_dim state"]]:
    """Advance the recurrence of `ssd` by one step; by default nothing is changed in place.

    On an NVIDIA GPU it is one kernel, which inside `updating_states_in_place` changes `state` and returns it;
    where gradients are asked for, and elsewhere, it is PyTorch.

    Args:
        state: State before the step, float32.
        x: Input.
        delta: Step size, before bias and softplus.
        A: Decay rate of each head, negative; or with `A_is_log` the logarithm of -A.
        B: Input projection, (batch, state) or (batch, groups, state).
        C: Output projection, shaped as B.
        D: Skip weight, for each head or each channel.
        z: Gate.
        delta_bias: Added to delta.
        delta_softplus: Whether delta goes through softplus, after its bias.
        A_is_log: Whether to compute `decay_rate(A)` first, which on a GPU costs nothing here and three
            kernels outside.

    Returns:
        y in x's dtype, and the state after the step in float32 (float64 if any argument is).

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    B, C = B[:, None] if B.ndim == 2 else B, C[:, None] if C.ndim == 2 else C
    _validate(state, x, delta, A, B, C, D, z, delta_bias)
    tensors = (state, x, delta, A, B, C, D, z, delta_bias)
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if not differentiable and triton_obstacle(*tensors) is None:
        return ssd_step_triton(*tensors, delta_softplus, A_is_log)
    rate = decay_rate(A) if A_is_log else A
    return _step(state, x, delta, rate, B, C, D, z, delta_bias, delta_softplus)


def _step(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """The step in PyTorch."""
    dtype, heads = compute_dtype(state, x, delta, A, B, C, D, z, delta_bias), x.shape[1]
    wide, dt = x.to(dtype), step_size(delta, delta_bias, delta_softplus, dtype)[..., None, None]
    B, C = spread_groups(B, heads, dtype)[:, :, None], spread_groups(C, heads, dtype)[:, :, None]
    decay = torch.exp(dt * A.to(dtype)[:, None, None])
    state = decay * state.to(dtype) + (dt * wide[..., None]) * B
    return finish((state * C).sum(-1), wide, per_channel(D), z, x.dtype), state


def _validate(
    state: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    """Check the arguments of `ssd_state_step`, B and C with their group axis."""
    check_axes(_NAME, "x", x, ("batch", "heads", "head_dim"))
    check_axes(_NAME, "B", B, ("batch", "groups", "state"))
    (batch, heads, head_dim), (groups, n_state) = x.shape, B.shape[1:]
    channels = {"heads": heads, "head_dim": head_dim}
    projection = {"batch": batch, "groups": groups, "state": n_state}
    check_shape(_NAME, "state", state, {"batch": batch, **channels, "state": n_state})
    check_shape(_NAME, "delta", delta, {"batch": batch, "heads": heads})
    check_shape(_NAME, "A", A, {"heads": heads})
    check_shape(_NAME, "B", B, projection)
    check_shape(_NAME, "C", C, projection)
    if heads % groups:
        raise UserError(f"{_NAME}: the groups of B and C must divide heads={heads}, got {groups}")
    if D is not None:
        check_shape(_NAME, "D", D, {"heads": heads} if D.ndim == 1 else channels)
    if z is not None:
        check_shape(_NAME, "z", z, {"batch": batch, **channels})
    if delta_bias is not None:
        check_shape(_NAME, "delta_bias", delta_bias, {"heads": heads})
    tensors = {"x": x, "state": state, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z}
    check_tensors(_NAME, {**tensors, "delta_bias": delta_bias}, complex_allowed=())
