"""The normalisation in PyTorch: the specification of the operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm_reference(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Add, scale each row to unit root mean square, then by the weight.

    Args:
        x: (..., dim).
        residual: Shaped as x, or None.
        weight: (dim,).
        eps: Added to the mean square.
        dtype: Of the normalised output.

    Returns:
        The normalised sum in `dtype`, and the sum: float32, or float64 if x or the residual is.
    """
    stream = x.to(torch.promote_types(x.dtype, torch.float32))
    if residual is not None:
        wide = torch.promote_types(stream.dtype, residual.dtype)
        stream = stream.to(wide) + residual.to(wide)
    return F.rms_norm(stream, (x.shape[-1],), weight.to(stream.dtype), eps).to(dtype), stream
