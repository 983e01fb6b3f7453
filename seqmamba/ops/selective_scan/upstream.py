"""The CUDA selective scan of the package mamba-ssm behind our operator, where it is installed.

It calls the compiled module `selective_scan_cuda`, and not the Python package around it, which loads Triton,
einops and transformers. That module works on (batch, dim, length), starts from a zero state, scans from left
to right, and sums gradients with atomics, so that its backward is not repeatable.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.dispatch import Options, extension_obstacle, refuse_second_derivative

HINT = (
    "pip install 'seqmamba[cuda]'; the newest mamba-ssm builds this kernel only where "
    "MAMBA_KEEP_CUDA_BUILD=TRUE is set while it is installed"
)
_EXTENSION = "selective_scan_cuda"
_DEVICE = "cuda"
_INPUT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MOST_STATES = 256
_MOST_CHANNELS = 65_535  # its grid is (batch, dim)
_CHUNK = 2048  # it saves one state a chunk, at an offset that it computes in 32 bits
_INT32 = 2**31


def upstream_obstacle(
    u: Tensor | None,
    delta: Tensor | None,
    A: Tensor | None,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
) -> str | None:
    """Say why mamba-ssm's scan cannot run on these tensors: its device, dtypes and sizes."""
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    devices = [tensor.device for tensor in tensors if tensor is not None]
    if not devices:
        return "it runs on a GPU"
    if any(device.type != _DEVICE for device in devices):
        return f"it runs on a GPU and the tensors are on {devices[0]}"
    if initial_state is not None:
        return "it starts from a zero state and initial_state is given"
    return (
        _dtype_obstacle(u, A, {"delta": delta, "B": B, "C": C, "z": z}, {"D": D, "delta_bias": delta_bias})
        or _size_obstacle(u, A)
        or extension_obstacle(_EXTENSION, "mamba-ssm")
    )


def upstream_limits(options: Options) -> str | None:
    """Say which option of a call mamba-ssm's scan lacks."""
    if options.reverse:
        return "it scans from left to right and reverse is set"
    if options.reset:
        return "it cannot keep packed sequences apart and reset is given"
    return None


def selective_scan_upstream(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Run what `selective_scan_reference` does through mamba-ssm; takes its arguments.

    The final state is there to be read: a gradient that reaches it is refused in the backward.

    Returns:
        y (batch, length, dim), a transposed view, and the final state (batch, dim, state).
    """
    B, C = (_projection(x, A.is_complex()) for x in (B, C))
    # u, delta and z transposed; A, D and delta_bias in the float32 that it insists on, which loses nothing
    u, delta = u.transpose(1, 2), delta.transpose(1, 2)
    z = None if z is None else z.transpose(1, 2)
    A = A if A.is_complex() else A.float()
    D, delta_bias = (None if x is None else x.float() for x in (D, delta_bias))
    y, final = _UpstreamScan.apply(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return y.transpose(1, 2), final


class _UpstreamScan(torch.autograd.Function):
    """mamba-ssm's forward and backward kernels on its own layout."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        *tensors, delta_softplus = arguments
        tensors = [None if x is None else _time_contiguous(x) for x in tensors]
        kernels = importlib.import_module(_EXTENSION)
        # out before the gate, (decay, state) at the end of every chunk, and with z the gated output
        out, saved, *gated = kernels.fwd(*tensors, delta_softplus)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, out if gated else None, saved)
        ctx.delta_softplus = delta_softplus
        return gated[0] if gated else out, saved[:, :, -1, 1::2].clone()

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("selective_scan")
        if grad_final is not None:
            raise UserError(
                'selective_scan: impl="mamba_ssm" has no gradient through the final state',
                hint='detach the final state, or use impl="auto"',
            )
        if grad_y is None:
            return (None,) * 9
        *tensors, out, saved = ctx.saved_tensors
        kernels = importlib.import_module(_EXTENSION)
        # None: it allocates the gradient of z; False: the gated output need not be recomputed
        du, ddelta, dA, dB, dC, dD, dbias, *dz = kernels.bwd(
            *tensors,
            _time_contiguous(grad_y),
            saved,
            out,
            None,
            ctx.delta_softplus,
            False,
        )
        present = (
            None if x is None else grad
            for x, grad in zip(tensors[5:], (dD, *(dz or [None]), dbias), strict=True)
        )
        return (du, ddelta, dA, dB, dC, *present, None)


def _projection(x: Tensor, is_complex: bool) -> Tensor:
    """(batch, length, groups, state) to its (batch, groups, state, length), a complex value as two steps."""
    if not is_complex:
        return x.permute(0, 2, 3, 1)
    pairs = torch.view_as_real(x if x.is_complex() else torch.complex(x, torch.zeros_like(x)))
    return pairs.permute(0, 2, 3, 1, 4).flatten(-2)


def _time_contiguous(x: Tensor) -> Tensor:
    return x if x.ndim > 2 and x.stride(-1) == 1 else x.contiguous()


def _dtype_obstacle(
    u: Tensor | None,
    A: Tensor | None,
    inputs: dict[str, Tensor | None],
    parameters: dict[str, Tensor | None],
) -> str | None:
    """Say which dtype it does not take; None stands for float32, as `explain` has it."""
    dtype = torch.float32 if u is None else u.dtype
    if dtype not in _INPUT_DTYPES:
        return f"it computes in float32 and u is {dtype}"
    is_complex = A is not None and A.is_complex()
    for name, tensor in {"A": A, **inputs, **parameters}.items():
        if tensor is not None and tensor.dtype in (torch.float64, torch.complex128):
            return f"it computes in float32 and {name} is {tensor.dtype}"
    for name, tensor in inputs.items():
        if tensor is not None and tensor.dtype != dtype and not (tensor.is_complex() and is_complex):
            return f"it wants {name} in the dtype of u, {dtype}, and it is {tensor.dtype}"
    B = inputs.get("B")
    if is_complex and B is not None and B.ndim == 4 and B.shape[2] > 1:
        return f"its gradient of B is wrong with complex A and several groups, here {B.shape[2]}"
    if is_complex and dtype != torch.float32:
        return f"it wants u in float32 where A is complex, and it is {dtype}"
    return None


def _size_obstacle(u: Tensor | None, A: Tensor | None) -> str | None:
    """Say which size is beyond its kernels."""
    if A is not None and A.ndim == 2 and A.shape[1] > _MOST_STATES:
        return f"it takes a state of at most {_MOST_STATES} and A has {A.shape[1]}"
    if u is None or u.ndim != 3:
        return None
    batch, length, dim = u.shape
    if dim > _MOST_CHANNELS:
        return f"it takes a dim of at most {_MOST_CHANNELS:,} and u has {dim:,}"
    n_state = 1 if A is None or A.ndim != 2 else A.shape[1]
    saved = batch * dim * -(-length // _CHUNK) * n_state
    if saved >= _INT32:
        return f"it counts the states that it saves in 32 bits and needs {saved:,} of them"
    return None
