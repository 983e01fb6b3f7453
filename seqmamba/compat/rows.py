"""States of a batch that lie in the rows of a larger buffer, as servers of many requests keep them."""

from __future__ import annotations

import torch
from torch import Tensor


def take_rows(buffer: Tensor, indices: Tensor | None) -> Tensor:
    """The rows of `buffer` that belong to the batch; for a negative index, padding, any row.

    Args:
        buffer: (rows, ...).
        indices: (batch,) integer, or None where the rows are the batch.
    """
    return buffer if indices is None else buffer.index_select(0, indices.clamp(min=0))


def put_rows(buffer: Tensor, indices: Tensor | None, rows: Tensor) -> None:
    """Write `rows` back in place; a row with a negative index is left out. Nothing waits for the device.

    No gradient is recorded: the buffer holds values.

    Args:
        buffer: (rows, ...).
        indices: (batch,) integer, each row at most once, or None.
        rows: (batch, ...).
    """
    buffer, rows = buffer.detach(), rows.detach().to(buffer.dtype)
    if indices is None:
        buffer.copy_(rows)
        return
    # Padding writes once more what a real row writes, or where all is padding what was there: selecting the
    # real rows would need their number on the host.
    real = indices >= 0
    spare = real.int().argmax().view(1)
    target = torch.where(real, indices, indices.index_select(0, spare)).clamp(min=0)
    shape = (-1,) + (1,) * (rows.ndim - 1)
    rows = torch.where(real.view(shape), rows, rows.index_select(0, spare))
    rows = torch.where(real.any(), rows, buffer.index_select(0, target))
    buffer.index_copy_(0, target.long(), rows)


def blank_padding(y: Tensor, indices: Tensor | None) -> Tensor:
    """Zero the outputs of padding: those whose index is negative."""
    if indices is None:
        return y
    return y.masked_fill((indices < 0).view((-1,) + (1,) * (y.ndim - 1)), 0)
