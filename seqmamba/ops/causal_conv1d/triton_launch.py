"""The causal convolution on the GPU: tensors in, tensors out, around the Triton kernels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from triton import cdiv, next_power_of_2

from seqmamba.ops.causal_conv1d.triton_gpu import conv_backward, conv_forward
from seqmamba.ops.triton_sums import sum_partials

# Chosen by counting registers and bytes in flight on compute capability 9.0.
BYTES_PER_LANE = {"forward": 16, "backward": 8}  # of an access; halved for wide filters, which need registers
LANE_TAPS = {"forward": 40, "backward": 20}  # filters, windows and sums of a lane are held in registers
WARPS = 4  # of a program, fewer where the problem is small
GROUP = 4  # steps whose loads are in flight together
REGISTERS = 128  # of a lane at most, for four programs a multiprocessor; wide or packed filters need more
MOST_STEPS = 128  # of a walker: it reads the few inputs before its first step a second time
PROGRAMS = 4096  # where the sequence is long enough: several waves on the largest chips, for an even end


class Tiling(NamedTuple):
    """How a convolution is cut into programs.

    Attributes:
        rows: Walkers of a program.
        columns: Channels of a program.
        group: Steps whose loads are in flight together.
        groups: Groups of steps of a walker.
        warps: Warps of a program.
        registers: Largest number of a lane's registers; None sets no limit.
    """

    rows: int
    columns: int
    group: int
    groups: int
    warps: int
    registers: int | None


def choose_tiling(
    direction: str, batch: int, length: int, dim: int, width: int, itemsize: int, packed: bool
) -> Tiling:
    """Cut a convolution into programs.

    Args:
        direction: "forward" or "backward".
        batch: Sequences.
        length: Steps.
        dim: Channels.
        width: Taps.
        itemsize: Bytes of an element of x.
        packed: Whether there is a reset mask.
    """
    lane = max(1, BYTES_PER_LANE[direction] // itemsize)
    while lane > 1 and lane * width > LANE_TAPS[direction]:
        lane //= 2
    columns = _columns(dim, WARPS * 32 * lane)
    rows = max(1, WARPS * 32 * lane // columns)
    group = min(GROUP if width <= 4 else GROUP // 2, next_power_of_2(length))
    tiles = batch * cdiv(dim, columns)
    steps = max(group, min(MOST_STEPS, length * tiles // (rows * PROGRAMS)))
    groups = next_power_of_2(steps // group + 1) // 2  # rounded down
    rows = min(rows, next_power_of_2(cdiv(length, groups * group)))
    warps = max(1, min(WARPS, rows * columns // (32 * lane)))
    registers = REGISTERS if width <= 4 and not packed else None
    return Tiling(rows, columns, group, groups, warps, registers)


def _columns(dim: int, most: int) -> int:
    """The widest power of two up to `most` that leaves at most an eighth of the lanes idle, else 32."""
    columns = min(most, next_power_of_2(dim))
    while columns > 32 and cdiv(dim, columns) * columns * 8 > dim * 9:
        columns //= 2
    return columns


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
    tiling: Tiling | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute `causal_conv1d_reference` in float32; rows of x may lie apart, as in a part of a projection."""
    (batch, _, dim), width = x.shape, weight.shape[1]
    final = x.new_empty(batch, width - 1, dim, dtype=torch.float32)
    return _launch_forward(x, weight, bias, initial_state, reset, silu, reverse, tiling, final), final


def step_in_place(state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """Convolve one input (batch, dim), and write the new state over a contiguous float32 one.

    One step is one tile, so the program that writes a channel's state is the only one that reads it.
    """
    return _launch_forward(x[:, None], weight, bias, state, None, silu, False, None, state)[:, 0]


def _launch_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
    tiling: Tiling | None,
    final: Tensor,
) -> Tensor:
    """Write the final state and return y."""
    (batch, length, dim), width = x.shape, weight.shape[1]
    x = _with_contiguous_rows(x)
    tiling = tiling or choose_tiling(
        "forward", batch, length, dim, width, x.element_size(), reset is not None
    )
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    tiles = batch * cdiv(dim, tiling.columns) * cdiv(length, tiling.rows * tiling.groups * tiling.group)
    with torch.cuda.device_of(x):
        conv_forward[(tiles,)](
            x,
            weight.contiguous(),
            _contiguous(bias),
            _contiguous(initial_state),
            _contiguous(reset),
            y,
            final,
            length,
            dim,
            x.stride(0),
            x.stride(1),
            tiling.groups,
            **compile_options(tiling, width, silu, reverse, x.is_cuda),
        )
    return y


def backward(
    grad_y: Tensor,
    grad_final: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    silu: bool,
    reverse: bool,
    tiling: Tiling | None = None,
    add_to: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and initial_state, each in its dtype, empty where absent.

    `add_to`, contiguous, is another gradient of x, which this one adds to and returns.
    """
    (batch, length, dim), width = x.shape, weight.shape[1]
    x, grad_y = _with_contiguous_rows(x), _with_contiguous_rows(grad_y)
    tiling = tiling or choose_tiling(
        "backward", batch, length, dim, width, x.element_size(), reset is not None
    )
    step_tiles = cdiv(length, tiling.rows * tiling.groups * tiling.group)
    d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if add_to is None else add_to
    d_weight = weight.new_empty(weight.shape)
    d_bias, d_initial = _empty_like(bias, x), _empty_like(initial_state, x)
    partials = x.new_empty(batch * step_tiles, width + 1, dim, dtype=torch.float32)
    with torch.cuda.device_of(x):
        conv_backward[(batch * step_tiles * cdiv(dim, tiling.columns),)](
            grad_y,
            grad_final.contiguous(),
            x,
            weight.contiguous(),
            _contiguous(bias),
            _contiguous(initial_state),
            _contiguous(reset),
            d_x,
            d_initial,
            partials,
            length,
            dim,
            x.stride(0),
            x.stride(1),
            grad_y.stride(0),
            grad_y.stride(1),
            tiling.groups,
            ACCUMULATE=add_to is not None,
            **compile_options(tiling, width, silu, reverse, x.is_cuda),
        )
        sum_partials(partials, d_weight, None if bias is None else d_bias)
    return d_x, d_weight, d_bias, d_initial


def compile_options(
    tiling: Tiling, width: int, silu: bool, reverse: bool, fast: bool
) -> dict[str, int | bool | None]:
    """What the kernels are compiled for."""
    return {
        "WIDTH": width,
        "PADDED": next_power_of_2(width),
        "SILU": silu,
        "REVERSE": reverse,
        "ROWS": tiling.rows,
        "COLUMNS": tiling.columns,
        "GROUP": tiling.group,
        "FAST": fast,  # instructions of the GPU that Triton's interpreter does not know
        "num_warps": tiling.warps,
        "maxnreg": tiling.registers,
    }


def _with_contiguous_rows(x: Tensor) -> Tensor:
    """`x` itself if neighbouring channels are neighbours in memory, else a copy."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _empty_like(tensor: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0) if tensor is None else tensor.new_empty(tensor.shape)
