"""The causal convolution in vectorised PyTorch, a tap at a time over the sequence: any device and dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.ops.causal_conv1d.reference import compute_dtype


def causal_conv1d_chunked(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Compute what `causal_conv1d_reference` does, as a sum over taps of the shifted input."""
    dtype = compute_dtype(x, weight, bias, initial_state)
    (batch, length, dim), width = x.shape, weight.shape[1]
    past = width - 1
    if initial_state is None:
        before = torch.zeros(batch, past, dim, dtype=dtype, device=x.device)
    else:
        before = initial_state.to(dtype)
    # Storage order: the inputs processed before the first one lie on the left, or in reverse on the right.
    around = [x.to(dtype), before.flip(1)] if reverse else [before, x.to(dtype)]
    padded = torch.cat(around, dim=1)
    sequence = None if reset is None else _sequence_number(reset, past, reverse)
    origin = 0 if reverse else past

    y = torch.zeros(batch, length, dim, dtype=dtype, device=x.device)
    for lag in range(width):
        start = origin + (lag if reverse else -lag)
        tap = padded[:, start : start + length]
        if sequence is not None and lag:
            same = sequence[:, start : start + length] == sequence[:, origin : origin + length]
            tap = torch.where(same[:, :, None], tap, 0)
        y = y + tap * weight[:, past - lag].to(dtype)
    if bias is not None:
        y = y + bias.to(dtype)

    state = padded[:, :past] if reverse else padded[:, length:]
    if sequence is not None:
        last = sequence[:, :1] if reverse else sequence[:, -1:]
        same = (sequence[:, :past] if reverse else sequence[:, length:]) == last
        state = torch.where(same[:, :, None], state, 0)
    return (F.silu(y) if silu else y).to(x.dtype), state.flip(1) if reverse else state


def _sequence_number(reset: Tensor, past: int, reverse: bool) -> Tensor:
    """Number the packed sequence of every position of the padded input: (batch, length + past) int."""
    number = reset.long().cumsum(1)
    if reverse:  # what lies beyond the right end continues the last sequence
        return torch.cat([number, number[:, -1:].expand(-1, past)], dim=1)
    return F.pad(number, (past, 0))
