"""The selective scan's CPU kernels.

A task is one batch element and one tile of channels. It walks the sequence in segments, whose operands it
first brings into scratch memory. Time runs serially; the innermost loops run over the lanes of the tile,
which LLVM turns into vectors, with the states of the tile in the first-level cache. Lanes beyond the last
channel have no input, no gradient and a state of zero, so that these loops need no remainder and sums over
lanes no mask.

The forward saves the state before every segment. The backward walks the segments from the last processed one
back: it replays a segment from its saved state, keeping that segment's decays and states, then sweeps it in
reverse with the adjoint lambda_t = C_t g_t + a_{t+1} lambda_{t+1}, where a_t = exp(delta_t A) and g_t is the
gradient of C_t . h_t. Sums over channels (for dB and dC) are stored tile by tile and added outside, in a
fixed order.

`s` counts steps in processing order, `i` those of a segment; A arrives multiplied by log2(e).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqmamba.ops.numba_math import (
    LN_2,
    LOG2_E,
    exp2,
    flush_denormals,
    kernel,
    prefer_wide_vectors,
    restore_denormals,
    sigmoid,
    softplus,
)
from seqmamba.ops.numba_rows import Tile, copy_lanes, load_steps, store_steps

Array = np.ndarray

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
# "reassoc" lets the sums over lanes be vectors; exp2 and its kin keep their own, strict flags when inlined.
LANES = {"contract", "reassoc", "nsz"}


class Inputs(NamedTuple):
    """The operands, contiguous; absent ones are zeros (D, delta_bias, starts) or empty (z)."""

    u: Array  # (batch, length, dim)
    delta: Array  # (batch, length, dim)
    A: Array  # (dim, state), times log2(e)
    B: Array  # (batch, length, groups * state)
    C: Array  # (batch, length, groups * state)
    D: Array  # (dim,)
    z: Array  # (batch, length, dim)
    delta_bias: Array  # (dim,)
    starts: Array  # (batch, length) bool: a packed sequence starts, in processing order


class Options(NamedTuple):
    """How to scan."""

    gated: bool
    softplus: bool
    reverse: bool
    tile: int
    segment: int


class Gradients(NamedTuple):
    """What the backward writes: of parameters for each batch element, of B and C for each tile."""

    u: Array  # (batch, length, dim)
    delta: Array  # (batch, length, dim)
    A: Array  # (batch, dim, state)
    B: Array  # (tiles of a group, batch, length, groups * state)
    C: Array  # (tiles of a group, batch, length, groups * state)
    D: Array  # (batch, dim)
    z: Array  # (batch, length, dim)
    delta_bias: Array  # (batch, dim)
    initial_state: Array  # (batch, dim, state)


class Task(NamedTuple):
    """Where a task reads and writes."""

    channels: Tile
    states: Tile  # its group's part of the last axis of B and C
    k: int  # number of the tile in its group


class Scratch(NamedTuple):
    """What both passes keep of a tile; the rows are the steps of a segment."""

    A: Array  # (state, tile)
    D: Array  # (tile,)
    bias: Array  # (tile,)
    h: Array  # (state, tile)
    u: Array  # (segment, tile)
    dt: Array  # (segment, tile)
    x: Array  # (segment, tile): dt u
    z: Array  # (segment, tile)
    B: Array  # (segment, state)
    C: Array  # (segment, state)
    y: Array  # (segment, tile): C . h + D u


class Adjoint(NamedTuple):
    """What the backward adds: of a segment, or of the walk so far."""

    decay: Array  # (segment, state, tile)
    before: Array  # (segment, state, tile): the state that the step multiplied by its decay
    y: Array  # (segment, tile): gradient of y
    g: Array  # (segment, tile): gradient of C . h
    u: Array  # (segment, tile): gradient of u; while the segment is swept, of x
    dt: Array  # (segment, tile): gradient of dt; while the segment is swept, its part by the decays
    B: Array  # (segment, state)
    C: Array  # (segment, state)
    carry: Array  # (state, tile): a_{t+1} lambda_{t+1}
    A: Array  # (state, tile)
    D: Array  # (tile,)
    bias: Array  # (tile,)


@kernel()
def zeros(rows: int, columns: int) -> Array:
    """A matrix of zeros."""
    return np.zeros((rows, columns), np.float32)


@kernel()
def new_scratch(segment: int, n_state: int, tile: int) -> Scratch:
    """Room for one task at a time."""
    return Scratch(
        zeros(n_state, tile),
        np.zeros(tile, np.float32),
        np.zeros(tile, np.float32),
        zeros(n_state, tile),
        zeros(segment, tile),
        zeros(segment, tile),
        zeros(segment, tile),
        zeros(segment, tile),
        zeros(segment, n_state),
        zeros(segment, n_state),
        zeros(segment, tile),
    )


@kernel()
def new_adjoint(segment: int, n_state: int, tile: int) -> Adjoint:
    """Room for one task at a time."""
    return Adjoint(
        np.zeros((segment, n_state, tile), np.float32),
        np.zeros((segment, n_state, tile), np.float32),
        zeros(segment, tile),
        zeros(segment, tile),
        zeros(segment, tile),
        zeros(segment, tile),
        zeros(segment, n_state),
        zeros(segment, n_state),
        zeros(n_state, tile),
        zeros(n_state, tile),
        np.zeros(tile, np.float32),
        np.zeros(tile, np.float32),
    )


@kernel()
def place(index: int, inputs: Inputs, tile: int) -> Task:
    """Where task number `index` works."""
    dim, n_state = inputs.A.shape
    groups = inputs.B.shape[2] // n_state
    span = dim // groups
    tiles = (span + tile - 1) // tile
    b, g, k = index // (groups * tiles), index // tiles % groups, index % tiles
    channels = Tile(b, g * span + k * tile, min(tile, span - k * tile))
    return Task(channels, Tile(b, g * n_state, n_state), k)


@kernel()
def load_transposed(to: Array, source: Array, d0: int, lanes: int) -> None:
    """Fill (state, tile) with the tile's rows of (dim, state), and zeros beyond them."""
    for n in range(to.shape[0]):
        for j in range(lanes):
            to[n, j] = source[d0 + j, n]
        for j in range(lanes, to.shape[1]):
            to[n, j] = ZERO


@kernel()
def store_transposed(to: Array, source: Array, d0: int, lanes: int) -> None:
    """Undo `load_transposed`."""
    for j in range(lanes):
        for n in range(source.shape[0]):
            to[d0 + j, n] = source[n, j]


@kernel()
def load_channels(keep: Scratch, inputs: Inputs, tile: Tile) -> None:
    """Fill what stays the same along the sequence."""
    end = tile.d0 + tile.lanes
    keep.D[:], keep.bias[:] = ZERO, ZERO
    load_transposed(keep.A, inputs.A, tile.d0, tile.lanes)
    copy_lanes(keep.D, inputs.D[tile.d0 : end])
    copy_lanes(keep.bias, inputs.delta_bias[tile.d0 : end])


@kernel()
def load_segment(keep: Scratch, inputs: Inputs, options: Options, task: Task, start: int, stop: int) -> None:
    """Fill the operands of the steps [start, stop)."""
    load_steps(keep.u, inputs.u, start, stop, task.channels, options.reverse)
    load_steps(keep.dt, inputs.delta, start, stop, task.channels, options.reverse)
    load_steps(keep.B, inputs.B, start, stop, task.states, options.reverse)
    load_steps(keep.C, inputs.C, start, stop, task.states, options.reverse)
    if options.gated:
        load_steps(keep.z, inputs.z, start, stop, task.channels, options.reverse)
    step_sizes(keep.dt, keep.bias, options.softplus, stop - start)
    multiply(keep.x, keep.dt, keep.u, stop - start)


@kernel()
def step_sizes(dt: Array, bias: Array, soft: bool, n: int) -> None:
    """Add the bias to the first n rows of `dt`, and apply softplus if asked to."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(dt.shape[1]):
            dt[i, j] += bias[j]
    if soft:
        for i in range(n):
            for j in range(dt.shape[1]):
                dt[i, j] = softplus(dt[i, j])


@kernel()
def multiply(to: Array, left: Array, right: Array, n: int) -> None:
    """Fill n rows with the product of two others."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(to.shape[1]):
            to[i, j] = left[i, j] * right[i, j]


@kernel()
def gate(rows: Array, z: Array, n: int) -> None:
    """Multiply n rows by silu(z)."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(rows.shape[1]):
            rows[i, j] *= z[i, j] * sigmoid(z[i, j])


@kernel()
def gate_backward(y: Array, z: Array, grad: Array, n: int) -> None:
    """Turn `y` before its gate into the gradient of z: silu'(z) = sigmoid(z) (1 + z (1 - sigmoid(z)))."""
    prefer_wide_vectors()
    for i in range(n):
        for j in range(y.shape[1]):
            opening = sigmoid(z[i, j])
            y[i, j] *= grad[i, j] * opening * (ONE + z[i, j] * (ONE - opening))


@kernel(fastmath=LANES)
def advance(keep: Scratch, starts: Array) -> None:
    """Run the steps of a segment, one for each of `starts`, from `keep.h`: fills `keep.y` before the gate."""
    prefer_wide_vectors()
    n_state, tile = keep.A.shape
    for i in range(starts.shape[0]):
        if starts[i]:
            keep.h[:] = ZERO
        u, dt, x, y = keep.u[i], keep.dt[i], keep.x[i], keep.y[i]
        for j in range(tile):
            y[j] = keep.D[j] * u[j]
        for n in range(n_state):
            b_n, c_n, A, h = keep.B[i, n], keep.C[i, n], keep.A[n], keep.h[n]
            for j in range(tile):
                v = exp2(dt[j] * A[j]) * h[j] + x[j] * b_n
                h[j] = v
                y[j] += c_n * v


@kernel()
def scan_forward(
    first: int,
    last: int,
    inputs: Inputs,
    options: Options,
    initial: Array,
    y: Array,
    final: Array,
    saved: Array,
) -> None:
    """Scan the tasks [first, last).

    Writes y, the final state (batch, dim, state), and the state before each segment unless `saved` (batch,
    segments, state, dim) is empty.
    """
    denormals = flush_denormals()
    length, n_state = inputs.u.shape[1], inputs.A.shape[1]
    keep = new_scratch(options.segment, n_state, options.tile)
    for index in range(first, last):
        task = place(index, inputs, options.tile)
        b, d0, lanes = task.channels
        load_channels(keep, inputs, task.channels)
        load_transposed(keep.h, initial[b], d0, lanes)
        for start in range(0, length, options.segment):
            stop = min(start + options.segment, length)
            if saved.shape[1] > 0:
                for n in range(n_state):
                    copy_lanes(saved[b, start // options.segment, n, d0 : d0 + lanes], keep.h[n])
            load_segment(keep, inputs, options, task, start, stop)
            advance(keep, inputs.starts[b, start:stop])
            if options.gated:
                gate(keep.y, keep.z, stop - start)
            store_steps(y, keep.y, start, stop, task.channels, options.reverse)
        store_transposed(final[b], keep.h, d0, lanes)
    restore_denormals(denormals)


@kernel(fastmath=LANES)
def replay(keep: Scratch, adjoint: Adjoint, starts: Array) -> None:
    """Do what `advance` does, keep what `sweep` needs, and fill the gradient of C."""
    prefer_wide_vectors()
    n_state, tile = keep.A.shape
    for i in range(starts.shape[0]):
        if starts[i]:
            keep.h[:] = ZERO
        u, dt, x, y, grad = keep.u[i], keep.dt[i], keep.x[i], keep.y[i], adjoint.g[i]
        for j in range(tile):
            y[j] = keep.D[j] * u[j]
        for n in range(n_state):
            b_n, c_n, total, A, h = keep.B[i, n], keep.C[i, n], ZERO, keep.A[n], keep.h[n]
            decay, before = adjoint.decay[i, n], adjoint.before[i, n]
            for j in range(tile):
                a, old = exp2(dt[j] * A[j]), h[j]
                v = a * old + x[j] * b_n
                decay[j] = a
                before[j] = old
                h[j] = v
                y[j] += c_n * v
                total += grad[j] * v
            adjoint.C[i, n] = total


@kernel(fastmath=LANES)
def sweep(keep: Scratch, adjoint: Adjoint, starts: Array) -> None:
    """Carry the adjoint back over the segment that `replay` has run.

    Fills the gradient of B, the gradient of x in `adjoint.u` and, divided by log 2, that part of dt's which
    came through the decays in `adjoint.dt`.
    """
    prefer_wide_vectors()
    n_state, tile = keep.A.shape
    for k in range(starts.shape[0]):
        i = starts.shape[0] - 1 - k
        dt, x, grad, along_B, along_A = keep.dt[i], keep.x[i], adjoint.g[i], adjoint.u[i], adjoint.dt[i]
        for j in range(tile):
            along_B[j] = ZERO
            along_A[j] = ZERO
        for n in range(n_state):
            b_n, c_n, total, A, carry = keep.B[i, n], keep.C[i, n], ZERO, keep.A[n], adjoint.carry[n]
            decay, before, grad_A = adjoint.decay[i, n], adjoint.before[i, n], adjoint.A[n]
            for j in range(tile):
                state = carry[j] + c_n * grad[j]
                total += state * x[j]
                along_B[j] += state * b_n
                c = decay[j] * state
                q = c * before[j]
                along_A[j] += A[j] * q
                grad_A[j] += dt[j] * q
                carry[j] = c
            adjoint.B[i, n] = total
        if starts[i]:
            adjoint.carry[:] = ZERO


@kernel()
def finish_sweep(keep: Scratch, adjoint: Adjoint, soft: bool, n: int) -> None:
    """Complete the gradients of u and dt, and add those of D and the bias."""
    prefer_wide_vectors()
    tile = keep.u.shape[1]
    for i in range(n):
        u, dt, grad, grad_u, grad_dt = keep.u[i], keep.dt[i], adjoint.g[i], adjoint.u[i], adjoint.dt[i]
        for j in range(tile):
            grad_dt[j] = u[j] * grad_u[j] + LN_2 * grad_dt[j]
            grad_u[j] = dt[j] * grad_u[j] + keep.D[j] * grad[j]
            adjoint.D[j] += grad[j] * u[j]
        if soft:  # softplus'(x) = 1 - exp(-softplus(x))
            for j in range(tile):
                grad_dt[j] *= ONE - exp2(-dt[j] * LOG2_E)
        for j in range(tile):
            adjoint.bias[j] += grad_dt[j]


@kernel()
def differentiate_segment(
    inputs: Inputs,
    options: Options,
    task: Task,
    start: int,
    stop: int,
    grad_y: Array,
    grads: Gradients,
    keep: Scratch,
    adjoint: Adjoint,
) -> None:
    """Write the gradients of the steps [start, stop), from the state before them in `keep.h`."""
    starts, reverse = inputs.starts[task.channels.b, start:stop], options.reverse
    load_segment(keep, inputs, options, task, start, stop)
    load_steps(adjoint.g, grad_y, start, stop, task.channels, reverse)
    if options.gated:
        load_steps(adjoint.y, grad_y, start, stop, task.channels, reverse)
        gate(adjoint.g, keep.z, stop - start)
    replay(keep, adjoint, starts)
    if options.gated:
        gate_backward(keep.y, keep.z, adjoint.y, stop - start)
        store_steps(grads.z, keep.y, start, stop, task.channels, reverse)
    sweep(keep, adjoint, starts)
    finish_sweep(keep, adjoint, options.softplus, stop - start)
    store_steps(grads.u, adjoint.u, start, stop, task.channels, reverse)
    store_steps(grads.delta, adjoint.dt, start, stop, task.channels, reverse)
    store_steps(grads.B[task.k], adjoint.B, start, stop, task.states, reverse)
    store_steps(grads.C[task.k], adjoint.C, start, stop, task.states, reverse)


@kernel()
def scan_backward(
    first: int,
    last: int,
    inputs: Inputs,
    options: Options,
    saved: Array,
    grad_y: Array,
    grad_final: Array,
    grads: Gradients,
) -> None:
    """Write the gradients of the tasks [first, last), from the states that the forward saved."""
    denormals = flush_denormals()
    length, n_state = inputs.u.shape[1], inputs.A.shape[1]
    keep = new_scratch(options.segment, n_state, options.tile)
    adjoint = new_adjoint(options.segment, n_state, options.tile)
    for index in range(first, last):
        task = place(index, inputs, options.tile)
        b, d0, lanes = task.channels
        load_channels(keep, inputs, task.channels)
        load_transposed(adjoint.carry, grad_final[b], d0, lanes)
        adjoint.A[:], adjoint.D[:], adjoint.bias[:] = ZERO, ZERO, ZERO
        for part in range((length - 1) // options.segment, -1, -1):
            start = part * options.segment
            stop = min(start + options.segment, length)
            keep.h[:] = ZERO
            for n in range(n_state):
                copy_lanes(keep.h[n], saved[b, part, n, d0 : d0 + lanes])
            differentiate_segment(inputs, options, task, start, stop, grad_y, grads, keep, adjoint)
        store_transposed(grads.A[b], adjoint.A, d0, lanes)
        store_transposed(grads.initial_state[b], adjoint.carry, d0, lanes)
        copy_lanes(grads.D[b, d0 : d0 + lanes], adjoint.D)
        copy_lanes(grads.delta_bias[b, d0 : d0 + lanes], adjoint.bias)
    restore_denormals(denormals)
