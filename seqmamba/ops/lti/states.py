"""What makes a convolution a recurrence: packed sequences, the state before it and the state after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from seqmamba.ops.lti.blocks import accumulate, response
from seqmamba.ops.lti.packed import convolve_packed
from seqmamba.ops.lti.powers import Powers
from seqmamba.ops.lti.real_view import as_complex, as_real

Directions = Literal["forward", "reverse", "both"]


def run_with_states(
    make_convolution: Callable[[int], Callable[[Tensor], Tensor]],
    powers: Powers,
    u: Tensor,
    C: Tensor,
    initial_state: Tensor | None,
    reset: Tensor | None,
    directions: Directions,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Convolve, add the response to the initial state and sum up the final one.

    With `reset`, the convolution runs over the packed sequences side by side; the initial state is heard only
    in the sequence that it enters, and the final state hears only the sequence that is the last processed.

    Args:
        make_convolution: Given the longest length, returns what maps (batch, length, dim) from a zero state.
        powers: Of the system.
        u: (batch, length, dim) in the dtype of the sums.
        C: Complex (directions, dim, state).
        initial_state: Complex (batch, dim, state) or None for zeros.
        reset: (batch, length) bool or None.
        directions: One way or both; there are states only one way.
        return_final_state: Whether to compute the state after the last step.

    Returns:
        y without the skip, and the complex state (batch, dim, state) or None.
    """
    length, reverse = u.shape[1], directions == "reverse"
    heard = u
    if reset is None:
        y = make_convolution(length)(u)
    else:
        y = convolve_packed(make_convolution, u, reset)
        number = reset.cumsum(1)  # of the packed sequence that a step is in
        first, last = number[:, :1], number[:, -1:]
        entered = number == (last if reverse else 0)
        heard = torch.where((number == (first if reverse else last))[..., None], u, 0)
    state = accumulate(powers, heard, reverse=reverse) if return_final_state else None
    if initial_state is not None:
        before = as_real(initial_state).transpose(0, 1).to(u.dtype)
        caused = response(powers, C[0], before, length, reverse=reverse)
        y = y + (caused if reset is None else torch.where(entered[..., None], caused, 0))
        if state is not None:
            after = powers.advance(before, length)
            state = state + (after if reset is None else torch.where(entered.all(1)[:, None], after, 0))
    return y, None if state is None else as_complex(state.transpose(0, 1).contiguous())
