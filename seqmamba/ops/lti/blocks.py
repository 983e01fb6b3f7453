"""What a carried state adds to the outputs, and what a sequence leaves in the state: block by block."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from seqmamba.ops.lti.powers import Powers, block_length


def split_blocks(u: Tensor, width: int, *, front: bool) -> Tensor:
    """Cut (batch, length, dim) into zero-padded blocks (dim, batch, blocks, width).

    Args:
        u: Input.
        width: Steps of a block.
        front: Whether the zeros stand before the first step, not after the last.
    """
    missing = -u.shape[1] % width
    padded = F.pad(u, (0, 0, missing, 0) if front else (0, 0, 0, missing))
    return padded.unflatten(1, (-1, width)).permute(3, 0, 1, 2)


def join_blocks(y: Tensor, length: int, *, front: bool) -> Tensor:
    """Undo `split_blocks`."""
    joined = y.permute(1, 2, 3, 0).flatten(1, 2)
    return joined[:, -length:] if front else joined[:, :length]


def response(powers: Powers, C: Tensor, state: Tensor, length: int, *, reverse: bool) -> Tensor:
    """The outputs that the state before the first step causes alone: C transition^(t + 1) x.

    Args:
        powers: Of the system.
        C: Complex (dim, state).
        state: Real (dim, batch, 2 state).
        length: Steps.
        reverse: Whether the first step is the last of the sequence.

    Returns:
        (batch, length, dim).
    """
    width = block_length(length)
    rows = powers.outputs(C[None], width, state.dtype, first=1).squeeze(2)  # (dim, width, 2 state)
    before = powers.grow(state, -(-length // width), width)  # (dim, blocks, batch, 2 state)
    if reverse:
        before, rows = before.flip(1), rows.flip(1)
    outputs = before.flatten(1, 2) @ rows.mT
    return join_blocks(outputs.view(*before.shape[:3], width).transpose(1, 2), length, front=reverse)


def accumulate(powers: Powers, u: Tensor, *, reverse: bool) -> Tensor:
    """The state that an input leaves after the last step, from zero: the sum of transition^(age) drive u.

    Args:
        powers: Of the system.
        u: (batch, length, dim).
        reverse: Whether the last step is the first of the sequence.

    Returns:
        Real (dim, batch, 2 state).
    """
    width = block_length(u.shape[1])
    blocks = split_blocks(u, width, front=not reverse)
    left = powers.inputs(width, u.dtype)
    left = left if reverse else left.flip(1)
    states = blocks.flatten(1, 2) @ left
    states = states.view(*blocks.shape[:3], -1)
    while states.shape[2] > 1:  # neighbours meet: the older one ages by their distance
        if states.shape[2] % 2:
            states = F.pad(states, (0, 0, 0, 1) if reverse else (0, 0, 1, 0))
        newer, older = (0, 1) if reverse else (1, 0)
        aged = powers.advance(states[:, :, older::2].flatten(1, 2), width)
        states = states[:, :, newer::2] + aged.view(states[:, :, older::2].shape)
        width *= 2
    return states.squeeze(2)
