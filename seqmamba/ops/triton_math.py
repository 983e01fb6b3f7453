# mypy: allow-untyped-defs
"""Functions of one element that the Triton kernels of several operators share."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def softplus(x):
    """log(1 + exp(x)), to full relative precision at both ends."""
    e = tl.exp(-tl.abs(x))
    one_plus = 1.0 + e
    # the ratio undoes the rounding of 1 + e
    ratio = tl.log(one_plus) * (e / tl.where(one_plus == 1.0, 1.0, one_plus - 1.0))
    return tl.maximum(x, 0.0) + tl.where(one_plus == 1.0, e, ratio)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)); where exp overflows this is zero, as it should be."""
    return 1.0 / (1.0 + tl.exp2(x * -LOG2_E))
