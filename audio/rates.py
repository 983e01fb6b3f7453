"""Convolution kernels and strides at another sampling rate than that of the training.

A kernel is a function of time that training knows at its own samples. Read as the band-limited function
through them, it has values at the samples of any other rate: the same filter, up to what the slower rate can
hold. A stride that the ratio of the rates divides is kept in time as well, and then a model behind it sees
frames as in training. What a stride cannot keep is left to the state spaces, whose step sizes are multiplied
by it (Gu et al. 2022, arXiv:2111.00396, section 4.3).

``rate`` is the training's sampling rate over the input's, as everywhere: 2 for a model of 16 kHz at 8 kHz.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.errors import UserError

_ZERO_CROSSINGS = 6
"""Reach of the interpolation to either side, in samples of the slower rate."""


def require_rate(rate: float) -> None:
    """Refuse a ratio of sampling rates that is none.

    Args:
        rate: Training sampling rate over the input's.

    Raises:
        UserError: If it is not a positive number.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"rate: expected a positive number, got {rate}")


def stride_at_rate(stride: int, rate: float) -> tuple[int, float]:
    """Return the stride that comes nearest to the training's in time, and what it leaves to do.

    Args:
        stride: Samples from frame to frame in training.
        rate: Training sampling rate over the input's.

    Returns:
        The stride in samples of the input, at least 1, and the training's rate of frames over that of the
        input's: 1 where the stride is the same in time.
    """
    require_rate(rate)
    nearest = max(1, round(stride / rate))
    return nearest, rate * nearest / stride


def kernel_at_rate(
    weight: Float[Tensor, out in taps], first: int, rate: float, *, newest: int | None = None
) -> tuple[Float[Tensor, out in new_taps], int]:
    """Return the kernel that does at another sampling rate what this one did at that of the training.

    The value of the input at each tap's time is read by interpolation with a sinc under a Hann window; where
    the input is the faster one, the sinc is that of the training's rate, which takes away what the model
    never heard. The shares of each tap sum to one, so a constant input gives the same output.

    Args:
        weight: Kernel of a correlation; tap k weighs the sample ``first + k`` behind the start of a frame.
        first: Place of the first tap, mostly negative.
        rate: Training sampling rate over the input's.
        newest: Last sample, behind the start of a frame, that a causal layer may use; None: any.

    Returns:
        The kernel for the input's rate and the place of its first tap.

    Raises:
        UserError: If the rate is not a positive number.
    """
    require_rate(rate)
    cutoff = min(1.0, rate)  # of the input's own band
    reach = _ZERO_CROSSINGS / cutoff
    at = (first + torch.arange(weight.shape[2], dtype=torch.float64)) / rate
    start, end = math.ceil(at[0].item() - reach), math.floor(at[-1].item() + reach)
    if newest is not None:
        start, end = min(start, newest), min(end, newest)
        at = at.clamp(max=newest)
    distance = at[:, None] - torch.arange(start, end + 1)
    window = torch.cos(math.pi / 2 * (distance / reach).clamp(-1, 1)) ** 2
    share = torch.sinc(cutoff * distance) * window
    share = share / share.sum(dim=1, keepdim=True)
    return weight @ share.to(weight), start
