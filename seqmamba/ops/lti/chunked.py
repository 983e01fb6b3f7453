"""The chunked mode: matrix products inside blocks, a scan of states between them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmamba.ops.lti.blocks import join_blocks, split_blocks
from seqmamba.ops.lti.discretisation import LtiSystem
from seqmamba.ops.lti.powers import Powers, kernel
from seqmamba.ops.lti.states import Directions, run_with_states

_WIDTH = 64  # steps of a block: about the usual state size, so that no part of a block's work dominates


def lti_chunked(
    u: Tensor,
    system: LtiSystem,
    C: Tensor,
    initial_state: Tensor | None,
    reset: Tensor | None,
    directions: Directions,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Compute what `lti_reference` does without a transform: y = K * u + R x within a block of some steps.

    Work and memory are linear in the length.
    """
    powers = Powers(system)

    def convolution(longest: int) -> BlockConvolution:
        return BlockConvolution(powers, C, min(longest, _WIDTH), u.dtype, directions)

    return run_with_states(convolution, powers, u, C, initial_state, reset, directions, return_final_state)


class BlockConvolution:
    """Convolves block by block and carries the state across their borders.

    Args:
        powers: Of the system.
        C: Complex (directions, dim, state).
        width: Steps of a block.
        dtype: Real dtype of the sums.
        directions: What each of the read-outs is for.
    """

    def __init__(
        self, powers: Powers, C: Tensor, width: int, dtype: torch.dtype, directions: Directions
    ) -> None:
        self.powers, self.width = powers, width
        ways = {"forward": (False,), "reverse": (True,), "both": (False, True)}[directions]
        K = kernel(powers, C, width, dtype)
        rows = powers.outputs(C, width, dtype, first=1).transpose(1, 2)
        left = powers.inputs(width, dtype)
        self.ways = [
            (reverse, _toeplitz(K[i], reverse), rows[:, i].flip(1) if reverse else rows[:, i])
            for i, reverse in enumerate(ways)
        ]
        # what the steps of a block leave at its end
        self.left = {reverse: left if reverse else left.flip(1) for reverse in ways}

    def __call__(self, u: Tensor) -> Tensor:
        """Convolve (batch, length, dim)."""
        length = u.shape[1]
        y = None
        for reverse, within, rows in self.ways:
            blocks = split_blocks(u, self.width, front=reverse)  # (dim, batch, blocks, width)
            flat = blocks.flatten(1, 2)
            outputs = flat @ within
            if blocks.shape[2] > 1:
                states = (flat @ self.left[reverse]).view(*blocks.shape[:3], -1)
                before = self._states_before(states, self.width, reverse)
                outputs = torch.baddbmm(outputs, before.flatten(1, 2), rows.mT)
            joined = join_blocks(outputs.view(blocks.shape), length, front=reverse)
            y = joined if y is None else y + joined
        assert y is not None
        return y

    def _states_before(self, left: Tensor, steps: int, reverse: bool) -> Tensor:
        """The state before each block, from what each leaves (dim, batch, blocks, 2 state).

        Pairs of blocks are blocks of twice the length: the work halves at every level.
        """
        count = left.shape[2]
        if count == 1:
            return torch.zeros_like(left)
        left = F.pad(left, (0, 0, count % 2, 0) if reverse else (0, 0, 0, count % 2))
        older, newer = (left[:, :, int(reverse) :: 2], left[:, :, int(not reverse) :: 2])
        before_pair = self._states_before(self._age(older, steps) + newer, 2 * steps, reverse)
        before_newer = self._age(before_pair, steps) + older
        pair = (before_newer, before_pair) if reverse else (before_pair, before_newer)
        before = torch.stack(pair, dim=3).flatten(2, 3)
        return before[:, :, -count:] if reverse else before[:, :, :count]

    def _age(self, states: Tensor, steps: int) -> Tensor:
        return self.powers.advance(states.flatten(1, 2), steps).view(states.shape)


def _toeplitz(K: Tensor, reverse: bool) -> Tensor:
    """(dim, width) to the matrix (dim, from, to) of the convolution within a block."""
    width = K.shape[-1]
    step = torch.arange(width, device=K.device)
    lag = step[:, None] - step if reverse else step - step[:, None]
    return torch.where(lag >= 0, K[:, lag.clamp(min=0)], 0)
