"""`cross_scan` and `cross_merge` against loops over the cells of every grid."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import cross_merge, cross_scan

SHAPES = [(1, 1), (1, 5), (5, 1), (3, 4), (7, 3)]  # rows, columns
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def by_columns(grids: Sequence[tuple[int, int]], width: int) -> list[int]:
    """Positions in column order of grids (first row, rows) that share one row of the batch."""
    return [(first + r) * width + c for first, rows in grids for c in range(width) for r in range(rows)]


def mask(batch: Sequence[Sequence[tuple[int, int]]], length: int, width: int) -> Tensor:
    reset = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, grids in zip(reset, batch, strict=True):
        for first, _ in grids:
            row[first * width] = True
    return reset


def packed_and_padded(width: int) -> tuple[list[list[tuple[int, int]]], Tensor]:
    """Three rows of the batch, nine rows of a grid each: three grids, two, and one that fills it."""
    batch = [[(0, 4), (4, 1), (5, 4)], [(0, 7), (7, 2)], [(0, 9)]]
    return batch, mask(batch, 9 * width, width)


@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_one_grid_in_both_orders(rows: int, width: int) -> None:
    x = torch.randn(2, rows * width, 3, dtype=torch.float64)
    by_row, by_column = cross_scan(x, width)
    assert by_row is x
    assert torch.equal(by_column, x[:, by_columns([(0, rows)], width)])
    assert by_column.is_contiguous()
    assert torch.equal(cross_merge(by_row, by_column, width), 2 * x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_packed_and_padded_grids_are_ordered_by_themselves(device: str, width: int) -> None:
    batch, reset = packed_and_padded(width)
    x = torch.randn(3, 9 * width, 2, device=device)
    _, by_column = cross_scan(x, width, reset=reset.to(device))
    for got, given, grids in zip(by_column, x, batch, strict=True):
        assert torch.equal(got, given[by_columns(grids, width)])
    assert torch.equal(cross_merge(x, by_column, width, reset=reset.to(device)), 2 * x)


def test_rows_before_the_first_mark_are_a_grid_too() -> None:
    _, reset = packed_and_padded(3)
    unmarked = reset.clone()
    unmarked[:, 0] = False
    x = torch.randn(3, 27, 2)
    assert torch.equal(cross_scan(x, 3, reset=unmarked)[1], cross_scan(x, 3, reset=reset)[1])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_merge_is_the_adjoint_and_the_gradients_are_right(device: str, packed: bool) -> None:
    reset = packed_and_padded(4)[1].to(device) if packed else None
    x, a, b = torch.randn(3, 3, 36, 2, dtype=torch.float64, device=device).requires_grad_().unbind()
    scanned = cross_scan(x, 4, reset=reset)
    inner = (scanned[0] * a).sum() + (scanned[1] * b).sum()
    merged = cross_merge(a, b, 4, reset=reset)
    torch.testing.assert_close(inner, (x * merged).sum())
    torch.testing.assert_close(torch.autograd.grad(inner, x)[0], merged)
    torch.autograd.gradcheck(lambda u: cross_scan(u, 4, reset=reset)[1], x[:, :, :1])
    torch.autograd.gradgradcheck(lambda u, v: cross_merge(u * v, u, 4, reset=reset), (a[..., :1], b[..., :1]))


@pytest.mark.parametrize("packed", [False, True])
def test_compiled_whole(packed: bool) -> None:
    reset = packed_and_padded(3)[1] if packed else None

    def both(x: Tensor) -> Tensor:
        rows, columns = cross_scan(x, 3, reset=reset)
        return cross_merge(rows.sin(), columns.cos(), 3, reset=reset)

    x = torch.randn(3, 27, 2, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), both(x))
    found, expected = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (compiled, both))
    torch.testing.assert_close(found, expected)


def test_a_start_inside_a_row_is_found_in_compiled_code() -> None:
    compiled = torch.compile(cross_scan, fullgraph=True, backend="aot_eager")
    x, reset = torch.randn(1, 6, 2), torch.zeros(1, 6, dtype=torch.bool)
    assert compiled(x, 3, reset=reset)[1].shape == x.shape
    reset[0, 4] = True
    with pytest.raises(RuntimeError, match="first column"):
        compiled(x, 3, reset=reset)


def test_mistakes_are_named() -> None:
    x, reset = torch.randn(2, 6, 4), torch.zeros(2, 6, dtype=torch.bool)
    reset[1, 2] = True
    for call, message in (
        (lambda: cross_scan(x, 4), "cross_scan: width must divide the length 6, got 4"),
        (lambda: cross_scan(x, 0), "width must divide the length 6, got 0"),
        (lambda: cross_scan(x[0], 3), r"x must be \(batch, length, dim\), got shape \(6, 4\)"),
        (lambda: cross_scan(x.int(), 3), "x must be floating point, got dtype torch.int32"),
        (lambda: cross_scan(x, 3, reset=reset.float()), "reset must be a bool mask"),
        (lambda: cross_scan(x, 3, reset=reset[:, 1:]), r"reset must have shape \(batch=2, length=6\)"),
        (lambda: cross_scan(x, 3, reset=reset.to("meta")), "reset must be on cpu like x, got meta"),
        (lambda: cross_scan(x, 3, reset=reset), "true at the first column of a grid's row only"),
        (lambda: cross_merge(x, x[..., 1:], 3), r"columns must have shape \(batch=2, length=6, dim=4\)"),
        (lambda: cross_merge(x, x.to("meta"), 3), "columns must be on cpu like rows, got meta"),
    ):
        with pytest.raises(UserError, match=message):
            call()
