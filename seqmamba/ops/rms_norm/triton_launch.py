"""The normalisation on the GPU: tensors in, tensors out, around the Triton kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from seqmamba.ops.rms_norm.triton_gpu import norm_backward, norm_forward
from seqmamba.ops.triton_sums import sum_partials

ELEMENTS = {"forward": 4096, "backward": 2048}  # of a tile, unless one row is longer
LANES = {"forward": 32, "backward": 8}  # elements of a lane at most: they are held in registers
PROGRAMS = {"forward": 8192, "backward": 2048}  # at most, about: the backward's write a row of sums each


class Tiling(NamedTuple):
    """How a normalisation is cut into programs.

    Attributes:
        rows: Rows of a tile.
        columns: Lanes of a row.
        tiles: Tiles of a program, one after another.
        warps: Warps of a program.
    """

    rows: int
    columns: int
    tiles: int
    warps: int


def choose_tiling(direction: str, rows: int, dim: int) -> Tiling:
    """Cut a normalisation into programs.

    Args:
        direction: "forward" or "backward".
        rows: Rows.
        dim: Channels of a row.
    """
    columns = next_power_of_2(dim)
    tile = max(1, min(ELEMENTS[direction] // columns, next_power_of_2(rows)))
    elements = tile * columns
    warps = min(32, max(1 if elements < 1024 else 4, elements // (32 * LANES[direction])))
    return Tiling(tile, columns, cdiv(cdiv(rows, tile), PROGRAMS[direction]), warps)


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `rms_norm_reference` in float32.

    Returns:
        The normalised sum in `dtype`, the sum in float32 (empty without a residual), and (...,) the
        reciprocal root mean square of each row.
    """
    x = x.contiguous()
    rows, dim = x.numel() // x.shape[-1], x.shape[-1]
    y = torch.empty_like(x, dtype=dtype)
    stream = x.new_empty(0 if residual is None else x.shape, dtype=torch.float32)
    scale = x.new_empty(x.shape[:-1], dtype=torch.float32)
    if rows:
        tiling = choose_tiling("forward", rows, dim)
        with torch.cuda.device_of(x):
            norm_forward[(cdiv(rows, tiling.rows * tiling.tiles),)](
                x,
                None if residual is None else residual.contiguous(),
                weight.contiguous(),
                y,
                stream,
                scale,
                rows,
                dim,
                tiling.tiles,
                eps,
                ROWS=tiling.rows,
                COLUMNS=tiling.columns,
                num_warps=tiling.warps,
            )
    return y, stream, scale


def backward(
    grad_y: Tensor,
    grad_stream: Tensor | None,
    stream: Tensor,
    weight: Tensor,
    scale: Tensor,
    x_dtype: torch.dtype,
    added: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the sum, of x and of the weight.

    Args:
        grad_y: Gradient of the normalised sum.
        grad_stream: Gradient of the sum, from elsewhere.
        stream: What was normalised.
        weight: (dim,).
        scale: As `forward` returned it.
        x_dtype: Dtype of x.
        added: Whether there was a residual.

    Returns:
        The gradient of the sum in float32 (empty without a residual); the same in x's dtype (empty if that
        is float32 and there is a residual); the gradient of the weight in its dtype.
    """
    rows, dim = stream.numel() // stream.shape[-1], stream.shape[-1]
    separate = not added or x_dtype != torch.float32
    d_sum = stream.new_empty(stream.shape if added else 0, dtype=torch.float32)
    d_x = stream.new_empty(stream.shape if separate else 0, dtype=x_dtype)
    if not rows:
        return d_sum, d_x, torch.zeros_like(weight)
    d_weight = weight.new_empty(weight.shape)
    tiling = choose_tiling("backward", rows, dim)
    programs = cdiv(rows, tiling.rows * tiling.tiles)
    partials = stream.new_empty(programs, 1, dim, dtype=torch.float32)
    with torch.cuda.device_of(stream):
        norm_backward[(programs,)](
            grad_y.contiguous(),
            None if grad_stream is None else grad_stream.contiguous(),
            stream.contiguous(),
            weight.contiguous(),
            scale.contiguous(),
            d_sum if added else None,
            d_x if separate else None,
            partials,
            rows,
            dim,
            tiling.tiles,
            ROWS=tiling.rows,
            COLUMNS=tiling.columns,
            num_warps=tiling.warps,
        )
        sum_partials(partials, None, d_weight)
    return d_sum, d_x, d_weight
