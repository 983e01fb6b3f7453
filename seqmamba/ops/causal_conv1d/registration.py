"""The causal convolution as PyTorch operators: the only file of the folder that touches torch.library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.dispatch import refuse_second_derivative

_OPERANDS = (
    "Tensor x, Tensor weight, Tensor? bias, Tensor? initial_state, Tensor? reset, bool silu, bool reverse"
)
_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(f"causal_conv1d_forward({_OPERANDS}) -> (Tensor, Tensor)")
_LIBRARY.define(
    f"causal_conv1d_backward(Tensor grad_y, Tensor grad_final, {_OPERANDS}) -> "
    "(Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "causal_conv1d_step_in_place(Tensor(a!) state, Tensor x, Tensor weight, Tensor? bias, bool silu) "
    "-> Tensor"
)


@torch.library.impl(_LIBRARY, "causal_conv1d_forward", "CPU")
def _forward_cpu(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.causal_conv1d.numba_cpu import forward  # numba takes long to import: at first use

    return forward(*arguments)


@torch.library.impl(_LIBRARY, "causal_conv1d_backward", "CPU")
def _backward_cpu(*arguments: Any) -> tuple[Tensor, ...]:
    from seqmamba.ops.causal_conv1d.numba_cpu import backward

    return backward(*arguments)


@torch.library.impl(_LIBRARY, "causal_conv1d_forward", "CUDA")
def _forward_cuda(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.causal_conv1d.triton_launch import forward  # Triton is there on some systems only

    return forward(*arguments)


@torch.library.impl(_LIBRARY, "causal_conv1d_backward", "CUDA")
def _backward_cuda(*arguments: Any) -> tuple[Tensor, ...]:
    from seqmamba.ops.causal_conv1d.triton_launch import backward

    return backward(*arguments)


@torch.library.impl(_LIBRARY, "causal_conv1d_step_in_place", "CUDA")
def _step_in_place_cuda(*arguments: Any) -> Tensor:
    from seqmamba.ops.causal_conv1d.triton_launch import step_in_place

    return step_in_place(*arguments)


@torch.library.register_fake("seqmamba::causal_conv1d_forward", lib=_LIBRARY)
def _forward_fake(x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    batch, _, dim = x.shape
    return x.new_empty(x.shape), x.new_empty(batch, weight.shape[1] - 1, dim, dtype=torch.float32)


@torch.library.register_fake("seqmamba::causal_conv1d_backward", lib=_LIBRARY)
def _backward_fake(grad_y: Tensor, grad_final: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    x, weight, bias, initial_state = rest[:4]
    operands = (x, weight, bias, initial_state)
    return tuple(x.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape) for tensor in operands)


@torch.library.register_fake("seqmamba::causal_conv1d_step_in_place", lib=_LIBRARY)
def _step_in_place_fake(state: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


class _CausalConv1d(torch.autograd.Function):
    """Ties the two operators together; takes the arguments of `causal_conv1d_reference` in their order."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*arguments[:5])
        ctx.flags = arguments[5:]
        return torch.ops.seqmamba.causal_conv1d_forward(*arguments)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("causal_conv1d")
        operands = ctx.saved_tensors
        grads = torch.ops.seqmamba.causal_conv1d_backward(grad_y, grad_final, *operands, *ctx.flags)
        present = [None if x is None else grad for x, grad in zip(operands, grads, strict=False)]
        return (*present, None, None, None)


def causal_conv1d_registered(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run numba's kernels on the CPU, Triton's on a GPU; through autograd if a gradient can be asked for."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in arguments[:4]):
        return _CausalConv1d.apply(*arguments)
    return torch.ops.seqmamba.causal_conv1d_forward(*arguments)


def backward_into(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    grad_x: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias of a convolution with SiLU from a zero state.

    Args:
        grad_y: (batch, length, dim).
        x: (batch, length, dim).
        weight: (dim, width).
        bias: (dim,), or None.
        reset: (batch, length) bool, or None.
        reverse: Whether it ran from right to left.
        grad_x: Another gradient of x, contiguous, which is added to and returned; None for none.
    """
    final = x.new_zeros(x.shape[0], weight.shape[1] - 1, x.shape[2], dtype=torch.float32)
    operands = (grad_y, final, x, weight, bias, None, reset, True, reverse)
    if x.is_cuda and grad_x is not None:
        from seqmamba.ops.causal_conv1d.triton_launch import backward

        return backward(*operands, add_to=grad_x)[:3]
    own, *others, _ = torch.ops.seqmamba.causal_conv1d_backward(*operands)
    return own if grad_x is None else grad_x.add_(own), *others


def causal_conv1d_step_in_place(
    state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> Tensor:
    """Run one step as one kernel, without gradients, which changes `state`; returns y."""
    return torch.ops.seqmamba.causal_conv1d_step_in_place(state, x, weight, bias, silu)
