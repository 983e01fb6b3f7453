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


def zero_of_states(weight: Tensor, device: torch.device | str | None) -> Tensor:
    """Return a zero in the dtype of the states beside a weight.

    Args:
        weight: A parameter of the layer; int8 ones count as what they stand for.
        device: Where the states live; the weight's device when None.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return torch.zeros((), dtype=dtype, device=weight.device if device is None else device)
