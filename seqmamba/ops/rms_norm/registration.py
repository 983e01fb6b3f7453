"""The normalisation as PyTorch operators: the only file of the folder that touches torch.library.

They exist for NVIDIA GPUs alone: elsewhere PyTorch's own operators compute it, and need no registration.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.dispatch import refuse_second_derivative

_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(
    "rms_norm_forward(Tensor x, Tensor? residual, Tensor weight, float eps, ScalarType dtype) -> "
    "(Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "rms_norm_backward(Tensor grad_y, Tensor? grad_stream, Tensor stream, Tensor weight, Tensor scale, "
    "ScalarType x_dtype, bool added) -> (Tensor, Tensor, Tensor)"
)


@torch.library.impl(_LIBRARY, "rms_norm_forward", "CUDA")
def _forward_cuda(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from seqmamba.ops.rms_norm.triton_launch import forward  # Triton is there on some systems only

    return forward(*arguments)


@torch.library.impl(_LIBRARY, "rms_norm_backward", "CUDA")
def _backward_cuda(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from seqmamba.ops.rms_norm.triton_launch import backward

    return backward(*arguments)


@torch.library.register_fake("seqmamba::rms_norm_forward", lib=_LIBRARY)
def _forward_fake(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    stream = x.new_empty(0 if residual is None else x.shape, dtype=torch.float32)
    return x.new_empty(x.shape, dtype=dtype), stream, x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.register_fake("seqmamba::rms_norm_backward", lib=_LIBRARY)
def _backward_fake(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    scale: Tensor,
    x_dtype: torch.dtype,
    added: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    separate = not added or x_dtype != torch.float32
    return (
        stream.new_empty(stream.shape if added else 0, dtype=torch.float32),
        stream.new_empty(stream.shape if separate else 0, dtype=x_dtype),
        weight.new_empty(weight.shape),
    )


class _RMSNorm(torch.autograd.Function):
    """Ties the two operators together; takes the arguments of `rms_norm_reference` in their order."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        y, stream, scale = torch.ops.seqmamba.rms_norm_forward(x, residual, weight, eps, dtype)
        ctx.save_for_backward(x if residual is None else stream, weight, scale)
        ctx.dtypes = x.dtype, None if residual is None else residual.dtype
        return y, stream

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_stream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("rms_norm")
        x_dtype, residual_dtype = ctx.dtypes
        added = residual_dtype is not None
        d_sum, d_x, d_weight = torch.ops.seqmamba.rms_norm_backward(
            grad_y, grad_stream if added else None, *ctx.saved_tensors, x_dtype, added
        )
        if not added:
            return d_x, None, d_weight, None, None
        same = x_dtype == torch.float32
        return d_sum if same else d_x, d_sum.to(residual_dtype), d_weight, None, None


def rms_norm_registered(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Run the registered operator, through autograd if a gradient can be asked for."""
    tensors = (x, residual, weight)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return _RMSNorm.apply(x, residual, weight, eps, dtype)
    y, stream, _ = torch.ops.seqmamba.rms_norm_forward(x, residual, weight, eps, dtype)
    return y, stream
