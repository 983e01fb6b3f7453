"""Where the sequences lie that are packed end to end."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def sequence_bounds(
    reset: Bool[Tensor, "batch length"],
) -> tuple[Int[Tensor, " sequences"], Int[Tensor, " sequences"]]:
    """Find the packed sequences of all rows, first row first. The host waits for the device.

    Args:
        reset: True where a new sequence starts; every row starts one anyhow.

    Returns:
        Where each starts in the rows laid end to end, and its length.
    """
    starts = reset.clone()
    starts[:, 0] = True
    first = starts.flatten().nonzero()[:, 0]
    return first, torch.diff(first, append=first.new_tensor([starts.numel()]))
