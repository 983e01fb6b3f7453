# mypy: allow-untyped-defs
"""Adding the partial sums of a backward's programs in a fixed order: repeatable, where atomics are not."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 512, 8  # of a program's tile: accesses of 32 bytes, many in flight


@triton.jit
def sum_kernel(
    partials, main, last, count, dim, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sum one part of some channels; `main` is (dim, PARTS - 1), `last` (dim,), either may be None."""
    part, column = tl.program_id(1), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    at = partials + (row.to(tl.int64) * PARTS + part) * dim + column
    for first in range(0, count, ROWS):
        total += tl.load(at, mask=(column < dim) & (first + row < count), other=0.0)
        at += ROWS * PARTS * dim
    result = tl.sum(total, axis=0)[None, :]
    if part < PARTS - 1:
        if main is not None:
            tl.store(main + column * (PARTS - 1) + part, result, mask=column < dim)
    else:
        if last is not None:
            tl.store(last + column, result, mask=column < dim)


def sum_partials(partials: Tensor, main: Tensor | None, last: Tensor | None) -> None:
    """Sum (count, parts, dim) float32 over its first axis, and round to the dtypes of the results.

    Args:
        partials: What the programs have written; parts that nobody asks for are not read.
        main: Takes all parts but the last one, as (dim, parts - 1).
        last: Takes the last part, as (dim,).
    """
    count, parts, dim = partials.shape
    rows = min(ROWS, triton.next_power_of_2(count))
    grid = (triton.cdiv(dim, COLUMNS), parts if last is not None else parts - 1)
    sum_kernel[grid](partials, main, last, count, dim, PARTS=parts, ROWS=rows, COLUMNS=COLUMNS)
