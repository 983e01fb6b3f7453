"""Sequences of unequal length in one tensor: padded side by side, or packed end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def length_mask(lengths: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch length"]:
    """Return True at the real positions of right-padded sequences.

    Args:
        lengths: True lengths.
        length: Padded length.
    """
    return torch.arange(length, device=lengths.device) < lengths[:, None]


def reset_from_lengths(lengths: Int[Tensor, " batch"], length: int) -> Bool[Tensor, "batch length"]:
    """Return the reset mask that keeps right padding away from the real sequence.

    The padding becomes a packed sequence of its own, so in either direction no state crosses from it.

    Args:
        lengths: True lengths.
        length: Padded length.

    Returns:
        True at the first padded position of each row; nowhere in a row that has none.
    """
    return torch.arange(length, device=lengths.device) == lengths[:, None]


def pack(
    sequences: Sequence[Float[Tensor, "_ dim"]],
) -> tuple[Float[Tensor, "1 total dim"], Bool[Tensor, "1 total"]]:
    """Put sequences end to end in one row.

    Args:
        sequences: At least one tensor of (length, dim); the lengths may differ.

    Returns:
        The row, and the reset mask that keeps its sequences apart.
    """
    packed = torch.cat(list(sequences))[None]
    reset = torch.zeros(packed.shape[:2], dtype=torch.bool, device=packed.device)
    start = 0
    for sequence in sequences:
        reset[0, start] = True
        start += len(sequence)
    return packed, reset


def unpack(packed: Float[Tensor, "1 total dim"], lengths: Sequence[int]) -> list[Float[Tensor, "_ dim"]]:
    """Undo `pack`.

    Args:
        packed: A row of sequences end to end.
        lengths: Their lengths; the sum is the row's length.

    Returns:
        Views of the row, one a sequence.
    """
    return list(packed[0].split(list(lengths)))
