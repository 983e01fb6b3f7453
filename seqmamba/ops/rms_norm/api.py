"""`rms_norm`: validate, choose an implementation, call it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.dispatch import Implementation, choose, no_obstacle, triton_obstacle
from seqmamba.ops.rms_norm.reference import rms_norm_reference
from seqmamba.ops.rms_norm.registration import rms_norm_registered
from seqmamba.ops.validation import check_shape, check_tensors

_NAME = "rms_norm"
_LARGEST_DIM = 8192


def _obstacle(*tensors: Tensor | None) -> str | None:
    """Say why the Triton kernels cannot run on these tensors: they hold whole rows in registers."""
    x = next((tensor for tensor in tensors if tensor is not None), None)
    if x is not None and x.shape[-1] > _LARGEST_DIM:
        return f"it normalises up to {_LARGEST_DIM} channels and there are {x.shape[-1]}"
    return triton_obstacle(*tensors)


# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "triton",
        "kernels for NVIDIA GPUs, forward and backward, in float32; the addition is part of them",
        rms_norm_registered,
        _obstacle,
        hint='move the tensors to an NVIDIA GPU, or use impl="auto"',
    ),
    Implementation(
        "reference",
        "PyTorch's own normalisation, any device and dtype",
        rms_norm_reference,
        no_obstacle,
        hint="",
    ),
)


def rms_norm(
    x: Float[Tensor, "*shape dim"],
    weight: Float[Tensor, " dim"],
    eps: float = 1e-5,
    *,
    residual: Float[Tensor, "*shape dim"] | None = None,
    dtype: torch.dtype | None = None,
    impl: str = "auto",
) -> Float[Tensor, "*shape dim"] | tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
    """Scale every row to unit root mean square, then by a weight (https://arxiv.org/abs/1910.07467).

    y = s / sqrt(mean(s^2) + eps) * weight, with s = x, or s = x + residual. The arithmetic is float32 or
    wider whatever the input. Gradients flow through every tensor argument, and through s.

    Args:
        x: Input; with a residual, the branch that is added to it.
        weight: Scale of every channel.
        eps: Added to the mean square.
        residual: The residual stream, added to x before the normalisation.
        dtype: Dtype of y; the weight's by default.
        impl: "auto", "triton" or "reference"; see `seqmamba.ops.explain`.

    Returns:
        y in `dtype`; with `residual` also the new residual stream s in float32 (float64 if x or the
        residual is).

    Raises:
        UserError: A shape, dtype or device does not fit, or the named `impl` cannot run.
    """
    if x.ndim < 1 or x.shape[-1] < 1:
        raise UserError(f"{_NAME}: x must have at least one channel, got shape {tuple(x.shape)}")
    check_shape(_NAME, "weight", weight, {"dim": x.shape[-1]})
    if residual is not None and residual.shape != x.shape:
        raise UserError(
            f"{_NAME}: residual must be shaped as x, {tuple(x.shape)}, got {tuple(residual.shape)}"
        )
    check_tensors(_NAME, {"x": x, "weight": weight, "residual": residual}, complex_allowed=())
    dtype = weight.dtype if dtype is None else dtype
    if not dtype.is_floating_point:
        raise UserError(f"{_NAME}: dtype must be floating point, got {dtype}")
    implementation = choose(_NAME, IMPLEMENTATIONS, impl, (x, weight, residual))
    y, stream = implementation.run(x, residual, weight, eps, dtype)
    return y if residual is None else (y, stream)
