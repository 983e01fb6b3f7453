"""The recurrent mode: one step of a discrete system."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.dispatch import triton_obstacle
from seqmamba.ops.lti.discretisation import LtiSystem
from seqmamba.ops.lti.real_view import as_complex, as_real
from seqmamba.ops.lti.step_registration import lti_state_step_registered
from seqmamba.ops.lti.validation import check_complex
from seqmamba.ops.selective_scan.reference import compute_dtype, finish, read_out, widen
from seqmamba.ops.validation import check_axes, check_shape, check_tensors

_NAME = "lti_state_step"
_LARGEST_STATE = 512  # of a channel: the kernel holds it in registers


def lti_state_step(
    state: Complex[Tensor, "batch dim state"],
    u: Float[Tensor, "batch dim"],
    system: LtiSystem,
    C: Complex[Tensor, "dim state"],
    D: Float[Tensor, " dim"] | None = None,
    *,
    activation: str | None = None,
) -> tuple[Float[Tensor, "batch dim"], Complex[Tensor, "batch dim state"]]:
    """Advance the recurrence of `lti` by one step; by default nothing is changed in place.

    x = transition x + drive u,  y = activation(2 Re(C . x) + D u)

    Without gradients, a diagonal system on an NVIDIA GPU takes one Triton kernel; otherwise PyTorch computes
    it. Inside `updating_states_in_place` that kernel changes `state` and returns it.

    Args:
        state: State before the step, complex64.
        u: Input.
        system: What `lti_discretise` made of delta, A, B and P; to be made once for many steps.
        C: Output projection.
        D: Skip weight.
        activation: None or "gelu", the exact one.

    Returns:
        y in u's dtype, and the state after the step in complex64 (complex128 if any argument is that wide).

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    check_axes(_NAME, "u", u, ("batch", "dim"))
    check_axes(_NAME, "C", C, ("dim", "state"))
    channels = {"dim": u.shape[1], "state": C.shape[1]}
    check_shape(_NAME, "C", C, channels)
    check_shape(_NAME, "state", state, {"batch": len(u), **channels})
    check_shape(_NAME, "system.drive", system.drive, channels)
    if system.transition.is_complex():
        check_shape(_NAME, "system.transition", system.transition, channels)
    else:
        dense = {"dim": u.shape[1], "2 state": 2 * C.shape[1], "2 state from": 2 * C.shape[1]}
        check_shape(_NAME, "system.transition", system.transition, dense)
    if D is not None:
        check_shape(_NAME, "D", D, {"dim": u.shape[1]})
    check_complex(_NAME, {"state": state, "C": C, "system.drive": system.drive})
    named = {"u": u, "state": state, "C": C, "D": D, "system.drive": system.drive}
    check_tensors(_NAME, named, complex_allowed=("state", "C", "system.drive"))
    if activation not in (None, "gelu"):
        raise UserError(f'{_NAME}: activation must be None or "gelu", got {activation!r}')
    if _fits_the_kernel(state, u, system, C, D):
        return lti_state_step_registered(state, u, *system, C, D, activation == "gelu")
    with torch.autocast(u.device.type, enabled=False):
        dtype = compute_dtype(state, u, *system, C, D)
        x = u.to(dtype)
        state = next_state(widen(state, dtype), x, system, dtype)
        y = finish(read_out(widen(C, dtype), state), x, D, None, dtype)
        return (F.gelu(y) if activation == "gelu" else y).to(u.dtype), state


def _fits_the_kernel(state: Tensor, u: Tensor, system: LtiSystem, C: Tensor, D: Tensor | None) -> bool:
    """Tell whether the kernel takes the arguments: diagonals in complex64, without gradients."""
    complex_ones = (state, *system, C)
    if C.shape[1] > _LARGEST_STATE or any(x.dtype != torch.complex64 for x in complex_ones):
        return False
    differentiable = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (*complex_ones, u, D)
    )
    return not differentiable and triton_obstacle(u, D) is None


def next_state(state: Tensor, u: Tensor, system: LtiSystem, dtype: torch.dtype) -> Tensor:
    """X = transition x + drive u for complex (batch, dim, state), all of it in `dtype`."""
    transition, drive = widen(system.transition, dtype), widen(system.drive, dtype)
    if transition.is_complex():
        aged = transition * state
    else:
        # the batch as rows of one product a channel: broadcast, the matrices would be copied for each of it
        aged = as_complex((as_real(state).transpose(0, 1) @ transition.mT).transpose(0, 1).contiguous())
    return aged + drive * u[..., None]
