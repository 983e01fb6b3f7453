"""Step sizes within bounds."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from seqmamba.nn.precision import at_least_float32


def bounded_step_size(
    delta: Float[Tensor, "*shape channels"],
    bias: Float[Tensor, " channels"],
    limit: tuple[float, float],
) -> Float[Tensor, "*shape channels"]:
    """Return ``clamp(softplus(delta + bias), *limit)`` in float32 or wider.

    The scans fuse the bias and the softplus, but not the bounds: where there are bounds, this comes first.

    Args:
        delta: Step size before its bias.
        bias: Added in float32 or wider.
        limit: Smallest and largest step size.
    """
    return F.softplus(at_least_float32(delta) + at_least_float32(bias)).clamp(*limit)
