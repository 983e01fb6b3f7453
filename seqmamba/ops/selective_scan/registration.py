"""The selective scan as PyTorch operators: the only file of the folder that touches torch.library.

`seqmamba::selective_scan_forward` and `_backward` are opaque to torch.compile, which needs no more than their
fake versions (output shapes); the autograd.Function around them is traced through.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.dispatch import refuse_second_derivative
from seqmamba.ops.selective_scan.layout import GPU_SAVE_STEPS, GPU_STATES, SEGMENT
from seqmamba.ops.selective_scan.reference import finish

_OPERANDS = "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
_LIBRARY = torch.library.Library("seqmamba", "FRAGMENT")
_LIBRARY.define(
    f"selective_scan_forward({_OPERANDS}Tensor? initial_state, Tensor? reset, "
    "bool delta_softplus, bool reverse, bool save) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    f"selective_scan_backward(Tensor grad_y, Tensor grad_final, Tensor y, Tensor saved, {_OPERANDS}"
    "Tensor? reset, bool delta_softplus, bool reverse) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.impl(_LIBRARY, "selective_scan_forward", "CPU")
def _forward_cpu(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from seqmamba.ops.selective_scan.numba_cpu import forward  # numba takes long to import: at first use

    return forward(*arguments)


@torch.library.impl(_LIBRARY, "selective_scan_backward", "CPU")
def _backward_cpu(grad_y: Tensor, grad_final: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    from seqmamba.ops.selective_scan.numba_cpu import backward

    return backward(grad_y, grad_final, *rest)


@torch.library.impl(_LIBRARY, "selective_scan_forward", "CUDA")
def _forward_cuda(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from seqmamba.ops.selective_scan.cuda import forward

    return forward(*arguments)


@torch.library.impl(_LIBRARY, "selective_scan_backward", "CUDA")
def _backward_cuda(*arguments: Any) -> tuple[Tensor, ...]:
    from seqmamba.ops.selective_scan.cuda import backward

    return backward(*arguments)


@torch.library.register_fake("seqmamba::selective_scan_forward", lib=_LIBRARY)
def _forward_fake(u: Tensor, delta: Tensor, A: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    (batch, _, dim), n_state, save = u.shape, A.shape[1], rest[-1]
    B, C, _, z = rest[:4]
    gpu_dtype = input_dtype(u, delta, B, C, z) if u.device.type == "cuda" else None
    final = u.new_empty(batch, dim, n_state, dtype=torch.float32)
    return u.new_empty(u.shape), final, saved_buffer(u, n_state, save, gpu_dtype)


@torch.library.register_fake("seqmamba::selective_scan_backward", lib=_LIBRARY)
def _backward_fake(
    grad_y: Tensor, grad_final: Tensor, y: Tensor, saved: Tensor, u: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    operands = (u, *rest[:7])
    grads = (u.new_empty(0) if x is None else x.new_empty(x.shape) for x in operands)
    return (*grads, u.new_empty(grad_final.shape, dtype=torch.float32))


def input_dtype(u: Tensor, *others: Tensor | None) -> torch.dtype:
    """The dtype in which the GPU kernels read u, delta, B, C and z: their own if it is one, else float32."""
    return u.dtype if all(x is None or x.dtype == u.dtype for x in others) else torch.float32


def saved_buffer(u: Tensor, n_state: int, save: bool, gpu_dtype: torch.dtype | None) -> Tensor:
    """The buffer for the states that a forward saves; empty unless they are wanted.

    The GPU's are bfloat16 where its inputs have 16 bits, which round the gradients as much. It is flat: an
    axis of saved states would be compared with 1, and a short sequence compiled for itself.

    Args:
        u: (batch, length, dim).
        n_state: States a channel.
        save: Whether they are wanted.
        gpu_dtype: `input_dtype` on a GPU, None on a CPU.
    """
    batch, length, dim = u.shape
    every = SEGMENT if gpu_dtype is None else GPU_SAVE_STEPS
    dtype = torch.bfloat16 if gpu_dtype in (torch.bfloat16, torch.float16) else torch.float32
    states = (length + every - 1) // every
    return u.new_empty(batch * states * dim * n_state if save else 0, dtype=dtype)


class _SelectiveScan(torch.autograd.Function):
    """Ties the two operators together; takes the arguments of `selective_scan_reference` in their order."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        y, final, saved = torch.ops.seqmamba.selective_scan_forward(*arguments, True)
        ctx.save_for_backward(y, saved, *arguments[:8], arguments[9])
        ctx.initial_dtype = None if arguments[8] is None else arguments[8].dtype
        ctx.flags = arguments[10:]
        return y, final

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("selective_scan")
        y, saved, *operands = ctx.saved_tensors
        *grads, d_initial = torch.ops.seqmamba.selective_scan_backward(
            grad_y, grad_final, y, saved, *operands, *ctx.flags
        )
        present = [None if x is None else grad for x, grad in zip(operands, grads, strict=False)]
        initial = None if ctx.initial_dtype is None else d_initial.to(ctx.initial_dtype)
        return (*present, initial, None, None, None)


def selective_scan_kernels(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run the registered operator, saving states for the backward only if a gradient can be asked for."""
    tensors = arguments[:9]
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return _SelectiveScan.apply(*arguments)
    y, final, _ = torch.ops.seqmamba.selective_scan_forward(*arguments, False)
    return y, final


def selective_scan_cuda(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    """Run the registered operator, with more states than its GPU kernels hold in blocks of states.

    Blocks share nothing but their input, so y before the skip and the gate is the sum of theirs.
    """
    if A.shape[1] <= GPU_STATES:
        return selective_scan_kernels(u, delta, A, B, C, D, z, delta_bias, initial_state, *rest)
    total, finals, x = None, [], u.float()
    for first in range(0, A.shape[1], GPU_STATES):
        block = slice(first, first + GPU_STATES)
        initial = None if initial_state is None else initial_state[..., block]
        operands = (x, delta, A[:, block], B[..., block], C[..., block], None, None, delta_bias, initial)
        y, final = selective_scan_kernels(*operands, *rest)
        total = y if total is None else total + y
        finals.append(final)
    assert total is not None
    return finish(total, x, D, z, u.dtype), torch.cat(finals, dim=-1)
