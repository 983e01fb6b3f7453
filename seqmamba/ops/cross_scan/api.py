"""`cross_scan` and `cross_merge`: validate, then permute."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops.cross_scan.order import column_order, reorder
from seqmamba.ops.validation import check_axes, check_reset, check_shape, check_tensors


def cross_scan(
    x: Float[Tensor, "batch length dim"],
    width: int,
    *,
    reset: Bool[Tensor, "batch length"] | None = None,
) -> tuple[Float[Tensor, "batch length dim"], Float[Tensor, "batch length dim"]]:
    """Return a grid's cells row by row and column by column.

    With the `reverse` flag of the scans that read them, these are the four orders of VMamba (Liu et al. 2024,
    https://arxiv.org/abs/2401.10166, section 4.2): rows and columns, each from either end. The column order
    is the only copy; nothing is flipped.

    Args:
        x: Grids of any number of rows, flattened row by row: cell (r, c) is at position r width + c.
        width: Columns; divides the length.
        reset: True where a new grid starts, at the first cell of a row: rows of the batch may hold several
            grids end to end, or one and padding below it (a reset at the true length, see
            `seqmamba.nn.packing.reset_from_lengths`). Each grid is ordered by itself and stays where it was,
            so the scans of both orders take this same mask.

    Returns:
        x itself and its column order: cell (r, c) of a grid of h rows is at c h + r from its start.

    Raises:
        UserError: A shape, dtype or device does not fit, or a grid starts inside a row.
    """
    _validate("cross_scan", {"x": x}, width, reset)
    if reset is None:
        return x, x.unflatten(1, (-1, width)).transpose(1, 2).flatten(1, 2)
    order = column_order(reset, width)
    return x, reorder(x, order.source, order.target)


def cross_merge(
    rows: Float[Tensor, "batch length dim"],
    columns: Float[Tensor, "batch length dim"],
    width: int,
    *,
    reset: Bool[Tensor, "batch length"] | None = None,
) -> Float[Tensor, "batch length dim"]:
    """Add sequences in row and in column order, cell by cell: the adjoint of `cross_scan`.

    Args:
        rows: Cells in row order.
        columns: Cells in column order, as `cross_scan` returns them.
        width: As `cross_scan` takes it.
        reset: As `cross_scan` takes it.

    Returns:
        The sum in row order.

    Raises:
        UserError: A shape, dtype or device does not fit, or a grid starts inside a row.
    """
    _validate("cross_merge", {"rows": rows, "columns": columns}, width, reset)
    if reset is None:
        by_column = columns.unflatten(1, (width, -1))
        return (rows.unflatten(1, (-1, width)) + by_column.transpose(1, 2)).flatten(1, 2)
    order = column_order(reset, width)
    return rows + reorder(columns, order.target, order.source)


def _validate(name: str, tensors: Mapping[str, Tensor], width: int, reset: Tensor | None) -> None:
    first_name, first = next(iter(tensors.items()))
    check_axes(name, first_name, first, ("batch", "length", "dim"))
    batch, length, dim = first.shape
    for other, tensor in tensors.items():
        check_shape(name, other, tensor, {"batch": batch, "length": length, "dim": dim})
    check_tensors(name, tensors, complex_allowed=())
    if width < 1 or length % width:
        raise UserError(f"{name}: width must divide the length {length}, got {width}")
    check_reset(name, reset, batch, length)
    if reset is not None and reset.device != first.device:
        raise UserError(
            f"{name}: reset must be on {first.device} like {first_name}, got {reset.device}",
            hint="move the tensors to one device",
        )
