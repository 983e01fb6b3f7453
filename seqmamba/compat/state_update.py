"""The one-step update of the package mamba-ssm, on our operator."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.compat.rows import blank_padding, put_rows, take_rows
from seqmamba.errors import UserError
from seqmamba.ops import selective_state_step
from seqmamba.ops.validation import check_shape

_NAME = "selective_state_update"


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """Advance the state by one step in place, as mamba-ssm's `selective_state_update` does.

    The arithmetic is float32 or wider whatever the dtype of `state`. Gradients flow through the output; the
    state in place holds values.

    Args:
        state: (batch, dim, state) or (batch, heads, dim, state), changed in place.
        x: (batch, dim) or (batch, heads, dim).
        dt: As x.
        A: (dim, state) or (heads, dim, state).
        B: (batch, state) or (batch, groups, state); groups divide heads.
        C: As B.
        D: (dim,) or (heads, dim).
        z: As x.
        dt_bias: (dim,) or (heads, dim).
        dt_softplus: Whether dt goes through softplus, after its bias.
        state_batch_indices: (batch,) integer: the row of `state` of each sequence, which then may have more
            rows; negative is padding, whose output is zero and whose state stays.

    Returns:
        y, shaped as x, in x's dtype.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    if state.ndim not in (3, 4):
        raise UserError(
            f"{_NAME}: state must be (batch, dim, state) or (batch, heads, dim, state), "
            f"got shape {tuple(state.shape)}"
        )
    heads = {"heads": state.shape[1]} if state.ndim == 4 else {}
    channel = {**heads, "dim": state.shape[-2]}
    n_state, batch = state.shape[-1], x.shape[0]
    step = {"batch": batch, **channel}
    for name, tensor, shape in (
        ("x", x, step),
        ("dt", dt, step),
        ("A", A, {**channel, "state": n_state}),
        ("D", D, channel),
        ("z", z, step),
        ("dt_bias", dt_bias, channel),
        ("state_batch_indices", state_batch_indices, {"batch": batch}),
    ):
        if tensor is not None:
            check_shape(_NAME, name, tensor, shape)
    B, C = B[:, None] if B.ndim == 2 else B, C[:, None] if C.ndim == 2 else C
    if B.ndim == 3 and heads and state.shape[1] % B.shape[1]:
        raise UserError(f"{_NAME}: the groups of B must divide heads={state.shape[1]}, got {B.shape[1]}")

    before = take_rows(state.detach(), state_batch_indices).reshape(batch, -1, n_state)
    # heads and their channels side by side are channels, in the order of the groups
    y, new = selective_state_step(
        before.clone() if torch.is_grad_enabled() else before,  # it changes in place below
        x.reshape(batch, -1),
        dt.reshape(batch, -1),
        A.reshape(-1, n_state),
        B,
        C,
        None if D is None else D.reshape(-1),
        None if z is None else z.reshape(batch, -1),
        None if dt_bias is None else dt_bias.reshape(-1),
        delta_softplus=dt_softplus,
    )
    put_rows(state, state_batch_indices, new.view(batch, *state.shape[1:]))
    return blank_padding(y.reshape(x.shape), state_batch_indices)
