# mypy: allow-untyped-defs
"""The normalisation's GPU kernels.

A program holds a tile of `ROWS` whole rows, `COLUMNS` lanes wide, in registers: every tensor is read and
written once. It goes through `tiles` such tiles, one after another, with the weight in registers.
Offsets are 64-bit.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_forward(
    x,
    residual,
    weight,
    y,
    stream,
    scale,
    rows,
    dim,
    tiles,
    eps,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write y, the sum x + residual (if there is a residual) and 1 / root mean square of every row."""
    column = tl.arange(0, COLUMNS)[None, :]
    gain = tl.load(weight + column, mask=column < dim, other=0.0).to(tl.float32)
    first = tl.program_id(0).to(tl.int64) * tiles * ROWS
    for tile in range(tiles):
        row = first + tile * ROWS + tl.arange(0, ROWS)[:, None]
        at, real = row * dim + column, (row < rows) & (column < dim)
        value = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
        if residual is not None:
            value += tl.load(residual + at, mask=real, other=0.0).to(tl.float32)
            tl.store(stream + at, value, mask=real)
        inverse = 1.0 / tl.sqrt(tl.sum(value * value, axis=1)[:, None] / dim + eps)
        tl.store(y + at, value * inverse * gain, mask=real)
        tl.store(scale + row, inverse, mask=row < rows)


@triton.jit
def norm_backward(
    grad_y,
    grad_stream,
    stream,
    weight,
    scale,
    grad_sum,
    grad_x,
    partials,
    rows,
    dim,
    tiles,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Write the gradient of the sum, rounded to the dtypes of `grad_sum` and `grad_x` (either may be None).

    With n = stream * scale and g = grad_y * weight, it is scale (g - n mean(g n)) + grad_stream. `partials`
    (programs, dim) takes the program's sum of grad_y * n, the gradient of the weight.
    """
    column = tl.arange(0, COLUMNS)[None, :]
    gain = tl.load(weight + column, mask=column < dim, other=0.0).to(tl.float32)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    first = tl.program_id(0).to(tl.int64) * tiles * ROWS
    for tile in range(tiles):
        row = first + tile * ROWS + tl.arange(0, ROWS)[:, None]
        at, real = row * dim + column, (row < rows) & (column < dim)
        value = tl.load(stream + at, mask=real, other=0.0).to(tl.float32)
        given = tl.load(grad_y + at, mask=real, other=0.0).to(tl.float32)
        inverse = tl.load(scale + row, mask=row < rows, other=0.0)
        unit, scaled = value * inverse, given * gain
        total += given * unit
        grad = inverse * (scaled - unit * (tl.sum(scaled * unit, axis=1)[:, None] / dim))
        if grad_stream is not None:
            grad += tl.load(grad_stream + at, mask=real, other=0.0).to(tl.float32)
        if grad_sum is not None:
            tl.store(grad_sum + at, grad, mask=real)
        if grad_x is not None:
            tl.store(grad_x + at, grad, mask=real)
    sums = tl.sum(total, axis=0)[None, :]
    tl.store(partials + tl.program_id(0).to(tl.int64) * dim + column, sums, mask=column < dim)
