"""The causal convolution's CPU kernels.

A task is one batch element and one tile of channels, which it walks in blocks of steps that belong to the
same packed sequence. The rows of a block, and the `past` = width - 1 rows before it, are copied to scratch
memory in processing order: there a tap is a shift of rows, every row is `TILE` lanes, and the loops over
lanes are vectors without a remainder. Lanes beyond the last channel hold numbers that nobody reads.

`s` counts steps in processing order and `t` is the storage position. Before the first step lies the initial
state; what a packed sequence must not see is zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqmamba.ops.numba_math import kernel, prefer_wide_vectors, sigmoid
from seqmamba.ops.numba_rows import Tile, copy_lanes, load_steps, store_steps

Array = np.ndarray

TILE = 64  # channels of a task
BLOCK = 32  # steps of a block, at most
ZERO = np.float32(0.0)
ONE = np.float32(1.0)


class Inputs(NamedTuple):
    """The operands, contiguous; absent ones are zeros."""

    x: Array  # (batch, length, dim)
    weight: Array  # (width, dim), latest tap first
    bias: Array  # (dim,)
    initial_state: Array  # (batch, width-1, dim)
    starts: Array  # (batch, length) bool: True where a packed sequence starts, in processing order


class Options(NamedTuple):
    """How to convolve."""

    silu: bool
    reverse: bool


class Gradients(NamedTuple):
    """What the backward writes; those of parameters for each batch element."""

    x: Array  # (batch, length, dim)
    weight: Array  # (batch, width, dim)
    bias: Array  # (batch, dim)
    initial_state: Array  # (batch, width-1, dim)


@kernel()
def starts_at(starts: Array, s: int) -> bool:
    """Whether step s cannot see the step before; s may lie outside the sequence."""
    return 0 <= s < starts.shape[0] and starts[s]


@kernel()
def block_stop(starts: Array, start: int) -> int:
    """Where the block from step `start` ends."""
    stop, limit = start + 1, min(start + BLOCK, starts.shape[0])
    while stop < limit and not starts[stop]:
        stop += 1
    return stop


@kernel()
def block_start(starts: Array, stop: int) -> int:
    """Where the block that ends before step `stop` starts."""
    start, limit = stop - 1, max(stop - BLOCK, 0)
    while start > limit and not starts[start]:
        start -= 1
    return start


@kernel()
def place(task: int, inputs: Inputs, weight: Array, bias: Array) -> Tile:
    """The tile of a task, with its filters copied to `weight` and `bias`."""
    dim = inputs.x.shape[2]
    tiles = (dim + TILE - 1) // TILE
    d0 = task % tiles * TILE
    lanes = min(TILE, dim - d0)
    for lag in range(weight.shape[0]):
        copy_lanes(weight[lag], inputs.weight[lag, d0 : d0 + lanes])
    copy_lanes(bias, inputs.bias[d0 : d0 + lanes])
    return Tile(task // tiles, d0, lanes)


@kernel()
def load_past(rows: Array, inputs: Inputs, options: Options, start: int, tile: Tile) -> None:
    """Fill the first `past` rows with what step `start` can see before itself."""
    past, visible, starts = inputs.weight.shape[0] - 1, True, inputs.starts[tile.b]
    for lag in range(1, past + 1):
        s, row = start - lag, rows[past - lag]
        visible = visible and not starts_at(starts, s + 1)
        if not visible:
            row[:] = ZERO
        elif s >= 0:
            load_steps(rows[past - lag :], inputs.x, s, s + 1, tile, options.reverse)
        else:
            copy_lanes(row, inputs.initial_state[tile.b, past + s, tile.d0 : tile.d0 + tile.lanes])


@kernel()
def add_scaled(to: Array, taps: Array, rows: Array, n: int) -> None:
    """Add the first n `rows`, each times `taps`."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(TILE):
            to[i, j] += taps[j] * rows[i, j]


@kernel()
def add_products(to: Array, left: Array, right: Array, n: int) -> None:
    """Add the sum over the first n rows of `left` times `right`."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(TILE):
            to[j] += left[i, j] * right[i, j]


@kernel()
def convolve(out: Array, rows: Array, weight: Array, bias: Array, n: int) -> None:
    """Fill n rows of `out` with the convolution before its activation; `rows` start `past` rows earlier."""
    past = weight.shape[0] - 1
    for i in range(n):
        copy_lanes(out[i], bias)
    for lag in range(past + 1):
        add_scaled(out, weight[lag], rows[past - lag :], n)


@kernel()
def silu(rows: Array, n: int) -> None:
    """Apply SiLU in place."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(TILE):
            rows[i, j] *= sigmoid(rows[i, j])


@kernel()
def silu_backward(grad: Array, before: Array, n: int) -> None:
    """Multiply by silu'(v) = sigmoid(v) (1 + v (1 - sigmoid(v)))."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(TILE):
            gate = sigmoid(before[i, j])
            grad[i, j] *= gate * (ONE + before[i, j] * (ONE - gate))


@kernel()
def conv_forward(first: int, last: int, inputs: Inputs, options: Options, y: Array, final: Array) -> None:
    """Convolve the tasks [first, last): y and the state to continue from (batch, width-1, dim)."""
    length, filters = inputs.x.shape[1], inputs.weight.shape[0]
    past = filters - 1
    weight, bias = np.zeros((filters, TILE), np.float32), np.zeros(TILE, np.float32)
    rows, out = np.zeros((past + BLOCK, TILE), np.float32), np.zeros((BLOCK, TILE), np.float32)
    for task in range(first, last):
        tile, start = place(task, inputs, weight, bias), 0
        while start < length:
            stop = block_stop(inputs.starts[tile.b], start)
            load_past(rows, inputs, options, start, tile)
            load_steps(rows[past:], inputs.x, start, stop, tile, options.reverse)
            convolve(out, rows, weight, bias, stop - start)
            if options.silu:
                silu(out, stop - start)
            store_steps(y, out, start, stop, tile, options.reverse)
            start = stop
        load_past(rows, inputs, options, length, tile)
        store_steps(final, rows, 0, past, tile, False)


@kernel()
def conv_backward(
    first: int,
    last: int,
    inputs: Inputs,
    options: Options,
    grad_y: Array,
    grad_final: Array,
    grads: Gradients,
) -> None:
    """Write the gradients of the tasks [first, last), from the last block to the first.

    `grad` holds the gradients before the activation of a block and of the `past` steps after it.
    """
    length, filters = inputs.x.shape[1], inputs.weight.shape[0]
    past = filters - 1
    weight, bias = np.zeros((filters, TILE), np.float32), np.zeros(TILE, np.float32)
    rows, out = np.zeros((past + BLOCK, TILE), np.float32), np.zeros((BLOCK, TILE), np.float32)
    grad, ones = np.zeros((BLOCK + past, TILE), np.float32), np.ones((BLOCK, TILE), np.float32)
    d_weight, d_bias = np.zeros((filters, TILE), np.float32), np.zeros(TILE, np.float32)
    for task in range(first, last):
        tile, stop = place(task, inputs, weight, bias), length
        d_weight[:], d_bias[:], grad[:] = ZERO, ZERO, ZERO
        while stop > 0:
            start = block_start(inputs.starts[tile.b], stop)
            n = stop - start
            load_past(rows, inputs, options, start, tile)
            load_steps(rows[past:], inputs.x, start, stop, tile, options.reverse)
            shift(grad, n)
            load_steps(grad, grad_y, start, stop, tile, options.reverse)
            if options.silu:
                convolve(out, rows, weight, bias, n)
                silu_backward(grad, out, n)
            add_products(d_bias, grad, ones, n)
            out[:n] = ZERO
            for lag in range(filters):
                add_products(d_weight[lag], grad, rows[past - lag :], n)
                add_scaled(out, weight[lag], grad[lag:], n)
            store_steps(grads.x, out, start, stop, tile, options.reverse)
            if inputs.starts[tile.b, start]:
                grad[:past] = ZERO  # the steps before see nothing of this
            stop = start
        rows[:past] = ZERO
        for lag in range(1, filters):
            add_scaled(rows[past - lag :], weight[lag], grad, lag)
        store_steps(grads.initial_state, rows, 0, past, tile, False)
        add_final(grads, grad_final, inputs, options, tile)
        copy_lanes(grads.bias[tile.b, tile.d0 : tile.d0 + tile.lanes], d_bias)
        for lag in range(filters):
            copy_lanes(grads.weight[tile.b, lag, tile.d0 : tile.d0 + tile.lanes], d_weight[lag])


@kernel()
def shift(grad: Array, n: int) -> None:
    """Move the first `past` rows n rows down, from the last one on, since they may overlap."""
    for i in range(grad.shape[0] - BLOCK - 1, -1, -1):
        copy_lanes(grad[i + n], grad[i])


@kernel()
def add_final(grads: Gradients, grad_final: Array, inputs: Inputs, options: Options, tile: Tile) -> None:
    """Hand the final state's gradient to the last inputs, as far back as it can see."""
    length, past = inputs.x.shape[1], grad_final.shape[1]
    lanes = slice(tile.d0, tile.d0 + tile.lanes)
    for lag in range(past):
        s = length - 1 - lag
        given = grad_final[tile.b, past - 1 - lag, lanes]
        if s >= 0:
            to = grads.x[tile.b, length - 1 - s if options.reverse else s, lanes]
        else:
            to = grads.initial_state[tile.b, past + s, lanes]
        for j in range(tile.lanes):
            to[j] += given[j]
        if starts_at(inputs.starts[tile.b], s):
            break
