"""Decay rates from the logarithms that layers learn."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# exp of more overflows float32 together with a long sum of step sizes, and infinity times a step of zero is
# not a number. At this rate no step size that softplus gives in practice leaves anything of a state.
LARGEST_LOG_RATE = 40.0


def decay_rate(A_log: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``A = -exp(A_log)`` in float32 or wider; it is finite whatever the parameter.

    Args:
        A_log: Logarithm of the decay rate.
    """
    wide = A_log.to(torch.promote_types(A_log.dtype, torch.float32))
    return -torch.exp(wide.clamp(max=LARGEST_LOG_RATE))
