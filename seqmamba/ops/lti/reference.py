"""The time-invariant state space one step at a time: the specification of the operator."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.ops.lti.discretisation import LtiSystem
from seqmamba.ops.lti.states import Directions
from seqmamba.ops.lti.step import next_state
from seqmamba.ops.selective_scan.reference import keep_previous, read_out


def lti_reference(
    u: Tensor,
    system: LtiSystem,
    C: Tensor,
    initial_state: Tensor | None,
    reset: Tensor | None,
    directions: Directions,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Run x_t = transition x_{t-1} + drive u_t, y_t = 2 Re(C . x_t) step by step, without the skip.

    S4, equation 3. Both directions are two runs whose outputs are added.

    Args:
        u: (batch, length, dim) in the dtype of the sums.
        system: The discrete system.
        C: Complex (directions, dim, state).
        initial_state: Complex (batch, dim, state) or None for zeros.
        reset: (batch, length) bool or None.
        directions: From left to right, from right to left, or both.
        return_final_state: Whether the state is asked for.

    Returns:
        y (batch, length, dim), and the complex state (batch, dim, state) after the last step or None.
    """
    if directions == "both":
        ahead, _ = lti_reference(u, system, C[:1], None, reset, "forward", False)
        behind, _ = lti_reference(u, system, C[1:], None, reset, "reverse", False)
        return ahead + behind, None
    reverse = directions == "reverse"
    state = initial_state
    if state is None:
        state = system.drive.new_zeros(len(u), *system.drive.shape)
    keep = None if reset is None else keep_previous(reset, reverse)[:, :, None, None].unbind(1)

    # unbind, not indexing: the gradient of an index is a zero-filled copy of the sequence, every step
    steps = u.unbind(1)
    outputs: list[Tensor] = []
    for t in reversed(range(len(steps))) if reverse else range(len(steps)):
        if keep is not None:
            state = torch.where(keep[t], state, 0)
        state = next_state(state, steps[t], system, u.dtype)
        outputs.append(read_out(C[0], state))
    y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)
    return y, state if return_final_state else None
