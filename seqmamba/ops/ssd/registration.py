"""The state space dual operator as PyTorch operators: the only file of the folder that touches torch.library.

`seqmamba::ssd_forward`, `_backward`, `_step` and `_step_in_place` are opaque to torch.compile, which needs no
more than their fake versions (output shapes); the autograd.Function around the first two is traced through.
They serve NVIDIA GPUs: on the CPU the chunked form runs, which is plain PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.dispatch import refuse_second_derivative
from seqmamba.ops.in_place import may_overwrite

_OPERANDS = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "Tensor? initial_state, Tensor? reset, bool delta_softplus, bool reverse"
)
_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(f"ssd_forward({_OPERANDS}) -> (Tensor, Tensor)")
_LIBRARY.define(
    f"ssd_backward(Tensor grad_y, Tensor? grad_final, {_OPERANDS}) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_STEP_OPERANDS = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "bool delta_softplus, bool A_is_log=False"
)
_LIBRARY.define(f"ssd_step(Tensor state, {_STEP_OPERANDS}) -> (Tensor, Tensor)")
_LIBRARY.define(f"ssd_step_in_place(Tensor(a!) state, {_STEP_OPERANDS}) -> Tensor")


@torch.library.impl(_LIBRARY, "ssd_forward", "CUDA")
def _forward_cuda(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.ssd.triton_gpu import forward  # Triton takes long to import: at first use

    return forward(*arguments)


@torch.library.impl(_LIBRARY, "ssd_backward", "CUDA")
def _backward_cuda(*arguments: Any) -> tuple[Tensor, ...]:
    from seqmamba.ops.ssd.triton_gpu import backward

    return backward(*arguments)


@torch.library.impl(_LIBRARY, "ssd_step", "CUDA")
def _step_cuda(*arguments: Any) -> tuple[Tensor, Tensor]:
    from seqmamba.ops.ssd.triton_gpu_step import step

    return step(*arguments)


@torch.library.impl(_LIBRARY, "ssd_step_in_place", "CUDA")
def _step_in_place_cuda(*arguments: Any) -> Tensor:
    from seqmamba.ops.ssd.triton_gpu_step import step_in_place

    return step_in_place(*arguments)


@torch.library.register_fake("seqmamba::ssd_forward", lib=_LIBRARY)
def _forward_fake(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    batch, _, heads, head_dim = x.shape
    return x.new_empty(x.shape), x.new_empty(batch, heads, head_dim, B.shape[3], dtype=torch.float32)


@torch.library.register_fake("seqmamba::ssd_backward", lib=_LIBRARY)
def _backward_fake(grad_y: Tensor, grad_final: Tensor | None, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(0) if t is None else t.new_empty(t.shape) for t in (x, *rest[:8]))


@torch.library.register_fake("seqmamba::ssd_step", lib=_LIBRARY)
def _step_fake(state: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), state.new_empty(state.shape, dtype=torch.float32)


@torch.library.register_fake("seqmamba::ssd_step_in_place", lib=_LIBRARY)
def _step_in_place_fake(state: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape)


class _Ssd(torch.autograd.Function):
    """Ties the operators together; takes the operands in their order."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arguments[:10])
        ctx.flags = arguments[10:]
        return torch.ops.seqmamba.ssd_forward(*arguments)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("ssd")
        operands = ctx.saved_tensors
        grad_y = torch.zeros_like(operands[0]) if grad_y is None else grad_y
        grads = torch.ops.seqmamba.ssd_backward(grad_y, grad_final, *operands, *ctx.flags)
        present = [None if x is None else grad for x, grad in zip(operands, grads, strict=False)]
        return (*present, None, None, None)


def ssd_triton(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run the registered operator on the arguments of `ssd_reference`; nothing but these is saved."""
    *operands, _chunk_size = arguments
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in operands[:9]):
        return _Ssd.apply(*operands)
    return torch.ops.seqmamba.ssd_forward(*operands)


def ssd_step_triton(state: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """Run one step as one kernel, without gradients; the new state may be `state` itself, changed."""
    if may_overwrite(state):
        return torch.ops.seqmamba.ssd_step_in_place(state, *operands), state
    return torch.ops.seqmamba.ssd_step(state, *operands)
