"""Packed sequences side by side, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqmamba.ops.packed_sequences import sequence_bounds


def convolve_packed(
    make_convolution: Callable[[int], Callable[[Tensor], Tensor]], u: Tensor, reset: Tensor
) -> Tensor:
    """Convolve every packed sequence as if it were alone.

    A transform cannot stop at a border, so the sequences are gathered into batches of the lengths
    2^(k-1) + 1 to 2^k, padded to the longest of the batch: less than half of what is transformed is padding.

    Args:
        make_convolution: Given the longest length, returns what maps (batch, length, dim) from a zero state.
        u: (batch, length, dim).
        reset: (batch, length) bool, True where a packed sequence starts.

    Returns:
        (batch, length, dim).
    """
    steps = u.flatten(0, 1)
    start, length = sequence_bounds(reset)
    order = length.argsort(stable=True)
    lengths = length[order].tolist()  # where the batches end depends on the data
    convolve = make_convolution(lengths[-1])
    outputs, places, first = [], [], 0
    while first < len(lengths):
        bracket = 1 << (lengths[first] - 1).bit_length()
        end = next((i for i in range(first, len(lengths)) if lengths[i] > bracket), len(lengths))
        rows = order[first:end]
        offset = torch.arange(lengths[end - 1], device=u.device)
        inside = offset < length[rows, None]
        place = torch.where(inside, start[rows, None] + offset, 0)
        outputs.append(convolve(torch.where(inside[..., None], steps[place], 0))[inside])
        places.append(place[inside])
        first = end
    # a step's place in the row, turned into the place in the row's step: one gather, not a scatter
    return torch.cat(outputs)[torch.cat(places).argsort()].view(u.shape)
