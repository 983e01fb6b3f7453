"""Packed sequences moved apart, so that each starts where a frame starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class FrameLayout:
    """What lies where in rows whose packed sequences start at multiples of a period.

    Args:
        starts: True at the first position of each sequence.
        valid: True at the positions of the sequences, False in the padding behind each.
    """

    starts: Bool[Tensor, "batch length"]
    valid: Bool[Tensor, "batch length"]

    @property
    def reset(self) -> Bool[Tensor, "batch length"]:
        """True where a sequence starts, and where the padding behind it does: neither sees the other."""
        before = F.pad(self.valid[:, :-1], (1, 0))
        return self.starts | (before & ~self.valid)

    def coarsen(self, factor: int) -> FrameLayout:
        """Return the layout of the frames.

        Args:
            factor: Positions of a frame, a divisor of the period.
        """
        return FrameLayout(
            self.starts.unflatten(1, (-1, factor))[..., 0], self.valid.unflatten(1, (-1, factor)).any(-1)
        )


def lone_layout(x: Float[Tensor, "batch length dim"], aligned: int) -> FrameLayout:
    """Return the layout of rows that hold one sequence each.

    Args:
        x: The sequences.
        aligned: Positions of a row, the padding behind the sequence included.
    """
    position = torch.arange(aligned, device=x.device).expand(len(x), -1)
    return FrameLayout(position == 0, position < x.shape[1])


@dataclass(frozen=True)
class Alignment:
    """The way there and back.

    Args:
        target: Where each position goes, counted over all rows.
        layout: What lies where after that.
    """

    target: Int[Tensor, "batch length"]
    layout: FrameLayout

    def spread(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch aligned dim"]:
        """Move the sequences apart; the padding behind each is zero."""
        rows, length = self.layout.valid.shape
        aligned = x.new_zeros(rows * length, x.shape[-1])
        return aligned.index_put((self.target.flatten(),), x.flatten(0, 1)).unflatten(0, (rows, length))

    def gather(self, x: Float[Tensor, "batch aligned dim"]) -> Float[Tensor, "batch length dim"]:
        """Move the sequences back."""
        return x.flatten(0, 1)[self.target]


def align(reset: Bool[Tensor, "batch length"], period: int) -> Alignment:
    """Plan how to move packed sequences so that each starts at a multiple of a period.

    The new length depends on where the sequences start, so that a GPU is waited for.

    Args:
        reset: True where a new packed sequence starts.
        period: Positions.
    """
    batch, length = reset.shape
    position = torch.arange(length, device=reset.device)
    starts = reset | (position == 0)
    begin = torch.where(starts, position, 0).cummax(dim=1).values
    begin_before = F.pad(begin[:, :-1], (1, 0))
    # At a start, position - begin_before is the length of the sequence before it.
    padding = torch.where(starts, (begin_before - position) % period, 0)
    target = position + padding.cumsum(dim=1)
    aligned = -(-(int(target.max()) + 1) // period) * period
    target = target + torch.arange(batch, device=reset.device)[:, None] * aligned
    layout = FrameLayout(
        *(
            torch.zeros(batch * aligned, dtype=torch.bool, device=reset.device)
            .index_put((target.flatten(),), values.flatten())
            .unflatten(0, (batch, aligned))
            for values in (starts, torch.ones_like(starts))
        )
    )
    return Alignment(target, layout)
