"""The recurrent mode: one step of a discrete system."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from seqmamba.ops.lti.discretisation import LtiSystem
from seqmamba.ops.lti.real_view import as_complex, as_real
from seqmamba.ops.lti.validation import check_complex
from seqmamba.ops.selective_scan.reference import compute_dtype, finish, read_out, widen
from seqmamba.ops.validation import check_axes, check_shape, check_tensors

_NAME = "lti_state_step"


def lti_state_step(
    state: Complex[Tensor, "batch dim state"],
    u: Float[Tensor, "batch dim"],
    system: LtiSystem,
    C: Complex[Tensor, "dim state"],
    D: Float[Tensor, " dim"] | None = None,
) -> tuple[Float[Tensor, "batch dim"], Complex[Tensor, "batch dim state"]]:
    """Advance the recurrence of `lti` by one step; nothing is changed in place.

    x = transition x + drive u,  y = 2 Re(C . x) + D u

    Args:
        state: State before the step, complex64.
        u: Input.
        system: What `lti_discretise` made of delta, A, B and P; to be made once for many steps.
        C: Output projection.
        D: Skip weight.

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
    if D is not None:
        check_shape(_NAME, "D", D, {"dim": u.shape[1]})
    check_complex(_NAME, {"state": state, "C": C, "system.drive": system.drive})
    named = {"u": u, "state": state, "C": C, "D": D, "system.drive": system.drive}
    check_tensors(_NAME, named, complex_allowed=("state", "C", "system.drive"))
    with torch.autocast(u.device.type, enabled=False):
        dtype = compute_dtype(state, u, *system, C, D)
        x = u.to(dtype)
        state = next_state(widen(state, dtype), x, system, dtype)
        return finish(read_out(widen(C, dtype), state), x, D, None, u.dtype), state


def next_state(state: Tensor, u: Tensor, system: LtiSystem, dtype: torch.dtype) -> Tensor:
    """X = transition x + drive u for complex (batch, dim, state), all of it in `dtype`."""
    transition, drive = widen(system.transition, dtype), widen(system.drive, dtype)
    if transition.is_complex():
        aged = transition * state
    else:
        # the batch as rows of one product a channel: broadcast, the matrices would be copied for each of it
        aged = as_complex((as_real(state).transpose(0, 1) @ transition.mT).transpose(0, 1).contiguous())
    return aged + drive * u[..., None]
