"""Which positions attention may see: those of the same packed sequence, and of a window around."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Reach(NamedTuple):
    """How many positions each one sees besides itself.

    Attributes:
        back: Positions before it in the same sequence, which is also its own position there.
        ahead: Positions after it in the same sequence; zero if causal.
    """

    back: Int[Tensor, "rows length"]
    ahead: Int[Tensor, "rows length"]


def sequence_reach(
    reset: Bool[Tensor, "batch length"], start: Int[Tensor, " batch"] | int, causal: bool
) -> Reach:
    """Return the reach inside the packed sequences, which ``reset`` separates.

    Args:
        reset: True where a new sequence starts.
        start: Positions that came before the first one in its sequence.
        causal: Whether nothing ahead is seen.
    """
    index = torch.arange(reset.shape[1], device=reset.device).expand(reset.shape)
    before = start if isinstance(start, int) else start[:, None]
    # The latest start so far, in the numbering of this chunk: that of the carried sequence is not positive.
    back = index - torch.where(reset, index, -before).cummax(dim=1).values
    if causal:
        return Reach(back, torch.zeros_like(back))
    sequence = reset.cumsum(dim=1)  # grows along the row, so that a search finds where each one ends
    return Reach(back, torch.searchsorted(sequence, sequence, right=True) - 1 - index)


def visible(
    distance: Int[Tensor, "length keys"], reach: Reach, window: int | None
) -> Bool[Tensor, "rows 1 length keys"]:
    """Return the mask of attention, the same for every head.

    Args:
        distance: Steps from the key forward to the query; negative where the key is ahead.
        reach: Of the queries.
        window: Positions that one sees to a side, itself included; ``None`` means all.
    """
    farthest = None if window is None else window - 1
    back, ahead = (x[:, None, :, None].clamp(0, farthest) for x in reach)
    return (distance <= back) & (distance >= -ahead)
