"""The causal convolution one step at a time: the specification of the operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype of states and sums: float64 if any argument is, else float32."""
    wide = any(x is not None and x.dtype == torch.float64 for x in tensors)
    return torch.float64 if wide else torch.float32


def causal_conv1d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Slide a window of the last `width` inputs over the sequence, one step at a time.

    Args:
        x: (batch, length, dim).
        weight: (dim, width); the last tap multiplies the current input.
        bias: (dim,) or None.
        initial_state: (batch, width-1, dim), the inputs before the first processed one, latest last; or None.
        reset: (batch, length) bool or None.
        silu: Whether the output goes through silu.
        reverse: Process from right to left.

    Returns:
        y in x's dtype, and the last width-1 inputs in processing order; zero before a reset.
    """
    dtype = compute_dtype(x, weight, bias, initial_state)
    (batch, length, dim), width = x.shape, weight.shape[1]
    if initial_state is None:
        window = torch.zeros(batch, width - 1, dim, dtype=dtype, device=x.device)
    else:
        window = initial_state.to(dtype)
    inputs = x.to(dtype).unbind(1)  # indexing would make the backward quadratic in the length
    outputs: list[Tensor] = []
    for t in reversed(range(length)) if reverse else range(length):
        boundary = t + 1 if reverse else t  # where the window may end a packed sequence
        if reset is not None and boundary < length:
            window = torch.where(reset[:, boundary, None, None], 0, window)
        window = torch.cat([window, inputs[t][:, None]], dim=1)
        y = (window * weight.T.to(dtype)).sum(1)
        outputs.append(y if bias is None else y + bias.to(dtype))
        window = window[:, 1:]
    y = torch.stack(outputs[::-1] if reverse else outputs, dim=1)
    return (F.silu(y) if silu else y).to(x.dtype), window
