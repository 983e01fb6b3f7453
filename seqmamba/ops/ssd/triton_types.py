"""The number formats of the kernels' matrix products."""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

_HALF = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def dot_dtype(*operands: Tensor) -> torch.dtype:
    """The half precision that all operands share, else float32."""
    dtype = operands[0].dtype
    return dtype if dtype in _HALF and all(x.dtype == dtype for x in operands) else torch.float32


def triton_dtype(dtype: torch.dtype) -> tl.dtype:
    """The name of a dtype in a kernel."""
    return _HALF.get(dtype, tl.float32)


def dot_precision(dtype: torch.dtype) -> str:
    """How float32 operands are multiplied: as three products of tf32, which keep 21 bits of 24."""
    return "tf32x3" if dtype == torch.float32 else "ieee"
