"""The causal convolution on the CPU: tensors in, tensors out, around the numba kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmamba.ops.causal_conv1d.numba_kernels import (
    TILE,
    Gradients,
    Inputs,
    Options,
    conv_backward,
    conv_forward,
)
from seqmamba.ops.numba_threads import channels, float32, run_tasks, sequence_starts


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Compute `causal_conv1d_reference` in float32."""
    batch, length, dim = x.shape
    inputs, options = _prepare(x, weight, bias, initial_state, reset, silu, reverse)
    y, final = torch.empty(batch, length, dim), torch.empty(batch, weight.shape[1] - 1, dim)
    run_tasks(conv_forward, batch * -(-dim // TILE), inputs, options, y.numpy(), final.numpy())
    return y.to(x.dtype), final


def backward(
    grad_y: Tensor,
    grad_final: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and initial_state, each in its dtype, empty where absent."""
    (batch, length, dim), width = x.shape, weight.shape[1]
    inputs, options = _prepare(x, weight, bias, initial_state, reset, silu, reverse)
    grads = (
        torch.empty(batch, length, dim),
        torch.empty(batch, width, dim),
        torch.empty(batch, dim),
        torch.empty(batch, width - 1, dim),
    )
    arrays = Gradients(*(grad.numpy() for grad in grads))
    given = (float32(grad_y).numpy(), float32(grad_final).numpy())
    run_tasks(conv_backward, batch * -(-dim // TILE), inputs, options, *given, arrays)
    d_x, d_weight, d_bias, d_initial = grads
    return (
        d_x.to(x.dtype),
        d_weight.sum(0).flip(0).T.contiguous().to(weight.dtype),
        x.new_empty(0) if bias is None else d_bias.sum(0).to(bias.dtype),
        x.new_empty(0) if initial_state is None else d_initial.to(initial_state.dtype),
    )


def _prepare(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Inputs, Options]:
    """The kernels' view of the operands, and their options."""
    (batch, length, dim), width = x.shape, weight.shape[1]
    state = torch.zeros(batch, width - 1, dim) if initial_state is None else float32(initial_state)
    inputs = Inputs(
        x=float32(x).numpy(),
        weight=float32(weight.T.flip(0)).numpy(),
        bias=channels(bias, dim).numpy(),
        initial_state=state.numpy(),
        starts=sequence_starts(batch, length, reset, reverse).numpy(),
    )
    return inputs, Options(silu, reverse)
