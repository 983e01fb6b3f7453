"""`draw`: validate, choose an implementation, call it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.dispatch import Implementation, choose, no_obstacle, triton_obstacle
from seqmamba.ops.draw.reference import Draws, draw_reference
from seqmamba.ops.draw.registration import draw_registered
from seqmamba.ops.validation import check_axes, check_shape, check_tensors

_NAME = "draw"


def _obstacle(*tensors: Tensor | None) -> str | None:
    """Say why the Triton kernel cannot run on these tensors."""
    return triton_obstacle(*tensors, float64=True)


# In order of preference for impl="auto".
IMPLEMENTATIONS = (
    Implementation(
        "triton",
        "one kernel for NVIDIA GPUs, in float64",
        draw_registered,
        _obstacle,
        hint='move the tensors to an NVIDIA GPU, or use impl="auto"',
    ),
    Implementation(
        "reference",
        "PyTorch in float64, any device that has it",
        draw_reference,
        no_obstacle,
        hint="",
    ),
)


@torch.no_grad()
def draw(
    logits: Float[Tensor, "batch vocabulary"],
    uniforms: Float[Tensor, " batch"],
    temperature: float = 1.0,
    *,
    out: Draws | None = None,
    impl: str = "auto",
) -> Draws:
    """Draw one token a row from softmax(logits / temperature), by inverting its cumulative distribution.

    A token is the first whose cumulative weight exceeds the row's number times the whole weight; its weight
    is never zero. The arithmetic is float64, and a row's result does not depend on the batch it is in.
    Nothing waits for the device, and no gradient flows.

    Args:
        logits: Any floating dtype and strides. -inf forbids a token; a NaN or +inf, or nothing but -inf,
            gives some token of the vocabulary whose log-probability is NaN.
        uniforms: In [0, 1), one a row; float64 where each of very many tokens is to have its chance.
        temperature: 0 takes the likeliest token, the first of equals.
        out: Memory (batch,) to write to, of any strides; new by default.
        impl: "auto", "triton" or "reference"; see `seqmamba.ops.explain`.

    Returns:
        Of shape (batch,): `out`, if given.

    Raises:
        UserError: A shape, dtype, device or the temperature does not fit, or the named `impl` cannot run.
    """
    check_axes(_NAME, "logits", logits, ("batch", "vocabulary"))
    check_tensors(_NAME, {"logits": logits, "uniforms": uniforms}, complex_allowed=())
    check_shape(_NAME, "uniforms", uniforms, {"batch": len(logits)})
    if not 0 <= temperature < math.inf:
        raise UserError(f"{_NAME}: temperature must be a finite number of at least 0, got {temperature}")
    if out is None:
        out = Draws.empty(len(logits), device=logits.device)
    else:
        _check_out(out, logits)
    choose(_NAME, IMPLEMENTATIONS, impl, (logits, uniforms)).run(logits, uniforms, temperature, out)
    return out


def _check_out(out: Draws, logits: Tensor) -> None:
    """Require memory of the right shapes, dtypes and device."""
    for name, tensor in out._asdict().items():
        check_shape(_NAME, f"out.{name}", tensor, {"batch": len(logits)})
        dtype = torch.int64 if name == "tokens" else torch.float32
        if (tensor.dtype, tensor.device) != (dtype, logits.device):
            expected, got = f"{dtype} on {logits.device}", f"{tensor.dtype} on {tensor.device}"
            raise UserError(f"{_NAME}: out.{name} must be {expected}, got {got}")
