"""The functions of the package causal-conv1d, on our operator. Sequences are (batch, dim, length)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from seqmamba.compat.rows import blank_padding, put_rows, take_rows
from seqmamba.errors import UserError
from seqmamba.ops import causal_conv1d
from seqmamba.ops.validation import check_axes, check_shape


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve every channel with its own short causal filter, as `causal_conv1d.causal_conv1d_fn` does.

    Any width, any number of channels, any layout and a final state beside `seq_idx` work here.

    Args:
        x: (batch, dim, length).
        weight: (dim, width).
        bias: (dim,).
        seq_idx: (batch, length) integer: the number of the packed sequence of each position, one run a
            sequence; negative is padding, whose output is zero.
        initial_states: (batch, dim, width-1), inputs before the first one; they belong to the first sequence.
        return_final_states: Also return the last width-1 inputs.
        final_states_out: (batch, dim, width-1), where to write them.
        activation: None, "silu" or "swish".

    Returns:
        y (batch, dim, length) in x's dtype, with `return_final_states` also the final state in x's dtype.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    name = "causal_conv1d_fn"
    check_axes(name, "x", x, ("batch", "dim", "length"))
    check_axes(name, "weight", weight, ("dim", "width"))
    (batch, dim, length), past = x.shape, weight.shape[1] - 1
    state_shape = {"batch": batch, "dim": dim, "width-1": past}
    if initial_states is not None:
        check_shape(name, "initial_states", initial_states, state_shape)
        initial_states = initial_states.transpose(1, 2)
    if final_states_out is not None:
        check_shape(name, "final_states_out", final_states_out, state_shape)
    reset = None
    if seq_idx is not None:
        check_shape(name, "seq_idx", seq_idx, {"batch": batch, "length": length})
        reset = sequence_starts(seq_idx)
    y, final = causal_conv1d(
        x.transpose(1, 2),
        weight,
        bias,
        activation=plain_activation(name, activation),
        initial_state=initial_states,
        return_final_state=True,
        reset=reset,
    )
    y, final = y.transpose(1, 2), final.transpose(1, 2).to(x.dtype)
    if seq_idx is not None:
        y = y.masked_fill((seq_idx < 0)[:, None], 0)
    if not return_final_states:
        return y
    return y, final if final_states_out is None else final_states_out.copy_(final)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """Convolve the next steps and advance the state in place, as `causal_conv1d.causal_conv1d_update` does.

    Gradients flow through the returned steps; the state in place holds values.

    Args:
        x: (batch, dim) or (batch, dim, length).
        conv_state: (batch, dim, state_len) with state_len >= width-1, the latest inputs, latest last.
        weight: (dim, width).
        bias: (dim,).
        activation: None, "silu" or "swish".
        cache_seqlens: (batch,) integer: the state is a ring, and x is written from this position on.
        conv_state_indices: (batch,) integer: the row of `conv_state` of each sequence, which then may have
            more rows; negative is padding, whose output is zero and whose state stays.

    Returns:
        y, shaped as x, in x's dtype.

    Raises:
        UserError: A shape, dtype or device does not fit.
    """
    name = "causal_conv1d_update"
    steps = x[..., None] if x.ndim == 2 else x
    check_axes(name, "x", steps, ("batch", "dim", "length"))
    check_axes(name, "weight", weight, ("dim", "width"))
    (batch, dim, length), past = steps.shape, weight.shape[1] - 1
    for argument, index in (("cache_seqlens", cache_seqlens), ("conv_state_indices", conv_state_indices)):
        if index is not None:
            check_shape(name, argument, index, {"batch": batch})
    rows = batch if conv_state_indices is None else conv_state.shape[0]
    state_len = conv_state.shape[-1]
    check_shape(name, "conv_state", conv_state, {"batch": rows, "dim": dim, "state_len": state_len})
    if state_len < past:
        raise UserError(f"{name}: conv_state must hold at least width-1={past} inputs, got {state_len}")

    held = take_rows(conv_state.detach(), conv_state_indices)
    new = steps.detach().to(held.dtype)
    if cache_seqlens is None:
        before = held[..., state_len - past :].clone()  # it changes in place below
        held = torch.cat([held, new], dim=-1)[..., length:]
    else:
        lags = torch.arange(-past, 0, device=x.device)
        before = held.gather(2, _ring(cache_seqlens, lags, state_len, dim))
        kept = torch.arange(max(0, length - state_len), length, device=x.device)
        held = held.scatter(2, _ring(cache_seqlens, kept, state_len, dim), new[..., -len(kept) :])
    convolved = causal_conv1d(
        steps.transpose(1, 2),
        weight,
        bias,
        activation=plain_activation(name, activation),
        initial_state=before.transpose(1, 2),
    )
    put_rows(conv_state, conv_state_indices, held)
    y = blank_padding(cast(Tensor, convolved).transpose(1, 2), conv_state_indices)
    return y[..., 0] if x.ndim == 2 else y


def sequence_starts(seq_idx: Tensor) -> Tensor:
    """(batch, length) bool: True where the number of the packed sequence changes; False at the first step."""
    starts = torch.zeros_like(seq_idx, dtype=torch.bool)
    starts[:, 1:] = seq_idx[:, 1:] != seq_idx[:, :-1]
    return starts


def plain_activation(name: str, activation: str | None) -> str | None:
    """Our operator's name of an activation.

    Raises:
        UserError: It is none of causal-conv1d's.
    """
    if activation not in (None, "silu", "swish"):
        raise UserError(f'{name}: activation must be None, "silu" or "swish", got {activation!r}')
    return None if activation is None else "silu"


def _ring(start: Tensor, offsets: Tensor, size: int, dim: int) -> Tensor:
    """Positions start + offsets in a ring of `size`: (batch, dim, offsets)."""
    return torch.remainder(start.long()[:, None] + offsets, size)[:, None].expand(-1, dim, -1)
