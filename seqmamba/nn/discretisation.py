"""From stored parameters to the decay rates and step sizes of the scans, kept where arithmetic is finite."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from seqmamba.nn.precision import at_least_float32

# exp of more overflows float32 together with a long sum of step sizes, and infinity times a step of zero is
# not a number. At this rate no step size that softplus gives leaves anything of a state.
LARGEST_LOG_RATE = 40.0


def decay_rate(A_log: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``A = -exp(A_log)`` in float32 or wider; it is finite whatever the parameter.

    Args:
        A_log: Logarithm of the decay rate.
    """
    return -torch.exp(at_least_float32(A_log).clamp(max=LARGEST_LOG_RATE))


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
