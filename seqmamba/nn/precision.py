"""Where float32 is kept although the surroundings may be narrower."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Widen bfloat16 and float16 to float32; leave float32 and float64 as they are.

    Args:
        x: Any floating tensor.

    Returns:
        ``x`` itself, or its float32 copy.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
