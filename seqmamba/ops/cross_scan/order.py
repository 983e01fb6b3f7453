"""The column order of grids that share a row of the batch: packed end to end, or padded at the bottom."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqmamba.errors import UserError

_INSIDE = "reset must be true at the first column of a grid's row only"


class ColumnOrder(NamedTuple):
    """A permutation of the positions and its inverse.

    Attributes:
        source: (batch, length) int64: where each position of the column order comes from in the row order.
        target: (batch, length) int64: where each position of the row order goes to.
    """

    source: Tensor
    target: Tensor


def column_order(reset: Tensor, width: int) -> ColumnOrder:
    """Order each grid by its columns and leave the grids where they are; nothing waits for the device.

    A grid of h rows whose first row is s holds the positions [s width, (s + h) width) in either order: its
    cell in row r and column c is r width + c by rows and s width + c h + (r - s) by columns. So the mask
    that separates the grids is the same for both orders.

    Args:
        reset: (batch, length) bool; true at the first position of a grid.
        width: Columns of every grid; divides length.

    Raises:
        UserError: If a grid starts inside a row. That is for the CPU; on a GPU and in compiled code an
            assertion on the device fails, as looking at the mask would make the host wait.
    """
    by_row = reset.unflatten(1, (-1, width))
    _refuse_starts_inside_rows(by_row)
    row = torch.arange(by_row.shape[1], device=reset.device).expand(by_row.shape[:2])
    starts = by_row[:, :, 0]
    first = torch.where(starts, row, 0).cummax(dim=1).values
    # The next start after each row: the smallest from the right, without the row itself.
    following = torch.where(starts, row, row.shape[1]).roll(-1, 1)
    following[:, -1] = row.shape[1]
    height = following.flip(1).cummin(dim=1).values.flip(1) - first

    row, first, height = row[:, :, None], first[:, :, None], height[:, :, None]
    column = torch.arange(width, device=reset.device)
    target = first * width + column * height + (row - first)
    within = (row - first) * width + column  # a position's place in its grid
    source = (first + within % height) * width + within // height
    return ColumnOrder(source.flatten(1), target.flatten(1))


def _refuse_starts_inside_rows(by_row: Tensor) -> None:
    inside = by_row[:, :, 1:].any()
    if torch.compiler.is_compiling() or inside.device.type != "cpu":
        torch._assert_async(~inside, _INSIDE)
    elif inside:
        raise UserError(f"cross_scan: {_INSIDE}", hint="packed grids and padding are made of whole rows")


class _Reorder(torch.autograd.Function):
    """Permute positions; the gradient is gathered too, by the inverse, where autograd would scatter it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return _gather(x, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _gather(grad, *ctx.saved_tensors), None, None


def reorder(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Return ``x[b, order[b]]`` for every b.

    Args:
        x: (batch, length, channels).
        order: (batch, length) int64, a permutation of the positions in each row.
        inverse: The inverse permutation.
    """
    return _Reorder.apply(x, order, inverse)


def _gather(x: Tensor, order: Tensor) -> Tensor:
    batch, length, _ = x.shape
    offset = torch.arange(batch, device=x.device)[:, None] * length
    return x.flatten(0, 1).index_select(0, (order + offset).flatten()).view(x.shape)
