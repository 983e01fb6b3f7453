"""The CUDA convolution of the package causal-conv1d behind our operator, where it is installed.

Its kernels want channels in eights where the channels lie side by side, as ours do; on the other layout they
offer neither states nor packing. Positions are counted in 32 bits.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.ops.causal_conv1d.reference import compute_dtype
from seqmamba.ops.dispatch import Options, extension_obstacle, refuse_second_derivative

HINT = "pip install 'seqmamba[cuda]'"
STAND_IN = "__seqmamba_stand_in__"  # marks the modules of seqmamba.compat.install, which call this operator
_PACKAGE = "causal_conv1d"
_EXTENSION = "causal_conv1d_cuda"
_DEVICE = "cuda"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_WIDTHS = (2, 3, 4)
_VECTOR = 8  # channels
_ALIGNMENT = 16  # bytes
_CHUNK, _MOST_CHUNKS = 64, 65_535  # steps a block, and blocks along the second axis of a grid
_UINT32 = 2**32


def upstream_obstacle(
    x: Tensor | None, weight: Tensor | None, bias: Tensor | None, initial_state: Tensor | None
) -> str | None:
    """Say why causal-conv1d cannot run on these tensors: its device, dtypes and sizes."""
    named = {"x": x, "weight": weight, "bias": bias, "initial_state": initial_state}
    given = {name: tensor for name, tensor in named.items() if tensor is not None}
    if not given:
        return "it runs on a GPU"
    for name, tensor in given.items():
        if tensor.device.type != _DEVICE:
            return f"it runs on a GPU and the tensors are on {tensor.device}"
        if tensor.dtype not in _DTYPES:
            return f"it computes in float32 and {name} is {tensor.dtype}"
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        return f"it wants bias in the dtype of weight, {weight.dtype}, and it is {bias.dtype}"
    if x is not None and initial_state is not None and x.dtype != initial_state.dtype:
        return f"it wants initial_state in the dtype of x, {x.dtype}, and it is {initial_state.dtype}"
    return _size_obstacle(x, weight) or _missing_package()


def upstream_limits(options: Options) -> str | None:
    """Say which option of a call causal-conv1d lacks."""
    return "it runs from left to right and reverse is set" if options.reverse else None


def causal_conv1d_upstream(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Run what `causal_conv1d_reference` does through causal-conv1d; takes its arguments.

    `reset` becomes its sequence numbers. Its releases disagree on whether a state reaches a numbered
    sequence, so the two together go in as inputs in front of the first.

    Returns:
        y (batch, length, dim), and the last width-1 inputs, cut out of x in PyTorch.
    """
    final = _final_state(x, weight, bias, initial_state, reset)
    number = None if reset is None else reset.cumsum(1, dtype=torch.int32)
    past = 0
    if number is not None and initial_state is not None:
        past = initial_state.shape[1]
        x = torch.cat([initial_state, x], dim=1)
        number = F.pad(number, (past, 0))  # numbers start at one where the first step is a reset
        initial_state = None
    y = importlib.import_module(_PACKAGE).causal_conv1d_fn(
        _aligned(x).transpose(1, 2),
        weight,
        bias,
        seq_idx=number,
        initial_states=None if initial_state is None else _aligned(initial_state).transpose(1, 2),
        activation="silu" if silu else None,
    )
    return _Once.apply(y.transpose(1, 2)[:, past:]), final


class _Once(torch.autograd.Function):
    """The identity, whose gradient cannot be differentiated: causal-conv1d's own says nothing."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        refuse_second_derivative("causal_conv1d")
        return grad_y


def _final_state(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None, reset: Tensor | None
) -> Tensor:
    """The last width-1 inputs, zero before the last reset: (batch, width-1, dim)."""
    past, length = weight.shape[1] - 1, x.shape[1]
    dtype = compute_dtype(x, weight, bias, initial_state)
    tail = x[:, max(0, length - past) :].to(dtype)
    if tail.shape[1] < past:
        missing = past - tail.shape[1]
        before = tail.new_zeros(x.shape[0], missing, x.shape[2])
        if initial_state is not None:
            before = initial_state[:, -missing:].to(dtype)
        tail = torch.cat([before, tail], dim=1)
    if reset is None:
        return tail
    number = F.pad(reset.long().cumsum(1), (past, 0))
    same = number[:, -past:] == number[:, -1:]
    return torch.where(same[:, :, None], tail, 0)


def _aligned(x: Tensor) -> Tensor:
    """`x` laid out as the kernels load it: channels side by side, in whole vectors."""
    in_vectors = x.stride(2) == 1 and x.stride(1) >= x.shape[2] and not (x.stride(0) | x.stride(1)) % _VECTOR
    if in_vectors and x.data_ptr() % _ALIGNMENT == 0 and x.shape[0] * x.stride(0) < _UINT32:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _size_obstacle(x: Tensor | None, weight: Tensor | None) -> str | None:
    """Say which size is beyond its kernels."""
    if weight is not None and weight.ndim == 2 and weight.shape[1] not in _WIDTHS:
        return f"it takes a width of 2, 3 or 4 and weight has {weight.shape[1]}"
    if x is None or x.ndim != 3:
        return None
    batch, length, dim = x.shape
    if dim % _VECTOR:
        return f"it takes a dim that is a multiple of {_VECTOR} and x has {dim}"
    if length > _CHUNK * _MOST_CHUNKS:
        return f"it takes a length of at most {_CHUNK * _MOST_CHUNKS:,} and x has {length:,}"
    if batch * (length + _WIDTHS[-1]) * dim >= _UINT32:  # states may go in as inputs
        return f"it counts elements in 32 bits and x has {x.numel():,}"
    return None


def _missing_package() -> str | None:
    obstacle = extension_obstacle(_EXTENSION, "causal-conv1d") or extension_obstacle(
        _PACKAGE, "causal-conv1d"
    )
    if obstacle is None and hasattr(importlib.import_module(_PACKAGE), STAND_IN):
        return "seqmamba.compat.install stands in for the package causal-conv1d"
    return obstacle
