"""Positions as rotations (Su et al. 2021, arXiv:2104.09864, section 3.2), exact far into a sequence."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqmamba.nn.precision import at_least_float32


def rotary_angles(
    positions: Int[Tensor, "rows length"], rotary_dim: int, theta: float, rate: float = 1.0
) -> Float[Tensor, "rows length pairs"]:
    """Return the angles ``rate * position * theta ** (-2 i / rotary_dim)`` modulo a full turn.

    The product is float64: at position 10^6 float32 would be off by up to 0.06 radians.

    Args:
        positions: Whole numbers, counted from the start of the sequence.
        rotary_dim: Channels of a head that rotate, even; a pair of channels turns together.
        theta: Base of the wavelengths.
        rate: Length of a step, in steps of the training.

    Returns:
        Float64 angles in [0, 2 pi).
    """
    pairs = torch.arange(0, rotary_dim, 2, dtype=torch.float64, device=positions.device)
    turns_per_step = theta ** (-pairs / rotary_dim) * (rate / math.tau)
    turns = positions.double()[..., None] * turns_per_step
    return (turns - turns.floor()) * math.tau


def rotate(
    x: Float[Tensor, "batch length heads dim"], angles: Float[Tensor, "rows length pairs"]
) -> Float[Tensor, "batch length heads dim"]:
    """Turn channel i together with channel ``i + pairs``, the layout of the published checkpoints.

    Args:
        x: Queries or keys; channels from ``2 * pairs`` on stay as they are.
        angles: From `rotary_angles`; one row serves the whole batch.

    Returns:
        The rotated heads in the dtype of ``x``; the arithmetic is float32 or wider.
    """
    pairs = angles.shape[-1]
    first, second, rest = at_least_float32(x).split([pairs, pairs, x.shape[-1] - 2 * pairs], dim=-1)
    reduced = angles.to(first.dtype)[:, :, None]
    cos, sin = torch.cos(reduced), torch.sin(reduced)
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1).to(x.dtype)
