"""The selective scan's CPU kernels.

A task is one batch element and one tile of channels. Time runs serially; the innermost loops run over the
channels of the tile, which LLVM turns into vectors, with the states of the tile in the first-level cache.
Tiles are padded with channels whose values are all zero (decay one, input zero), so these loops have no
remainder.

The forward saves the state before every `segment` steps. The backward walks the segments from the last
processed one back: it replays a segment from its saved state, keeping that segment's decays and states,
then sweeps it in reverse with the adjoint lambda_t = C_t g_t + a_{t+1} lambda_{t+1}, where a_t =
exp(delta_t A) and g_t is the gradient of C_t . h_t. Sums over channels (for dB and dC) are stored tile by
tile and added outside, in a fixed order.

`s` counts steps in processing order and `t` is the storage position; A arrives multiplied by log2(e).
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

Array = np.ndarray

ZERO = np.float32(0.0)
ONE = np.float32(1.0)
# "reassoc" lets the sums over lanes be vectors; exp2 and its kin keep their own, strict flags when inlined.
LANES = {"contract", "reassoc", "nsz"}


class Inputs(NamedTuple):
    """The operands, contiguous; absent ones are zeros (D, delta_bias, initial_state) or empty (z, reset)."""

    u: Array  # (batch, length, dim)
    delta: Array  # (batch, length, dim)
    A: Array  # (dim, state), times log2(e)
    B: Array  # (batch, length, groups, state)
    C: Array  # (batch, length, groups, state)
    D: Array  # (dim,)
    z: Array  # (batch, length, dim)
    delta_bias: Array  # (dim,)
    reset: Array  # (batch, length) bool


class Options(NamedTuple):
    """How to scan."""

    gated: bool
    packed: bool
    softplus: bool
    reverse: bool
    tile: int
    segment: int


class Gradients(NamedTuple):
    """What the backward writes: of parameters for each batch element, of B and C for each tile."""

    u: Array  # (batch, length, dim)
    delta: Array  # (batch, length, dim)
    A: Array  # (batch, dim, state)
    B: Array  # (tiles of a group, batch, length, groups, state)
    C: Array  # (tiles of a group, batch, length, groups, state)
    D: Array  # (batch, dim)
    z: Array  # (batch, length, dim)
    delta_bias: Array  # (batch, dim)
    initial_state: Array  # (batch, dim, state)


class Scratch(NamedTuple):
    """What the backward keeps of one tile: of a segment (first axis), or of the walk so far."""

    decay: Array  # (segment, state, tile)
    before: Array  # (segment, state, tile): the state that the step multiplied by its decay
    dt: Array  # (segment, tile)
    u: Array  # (segment, tile)
    g: Array  # (segment, tile): gradient of C_t . h_t
    h: Array  # (state, tile)
    carry: Array  # (state, tile): a_{t+1} lambda_{t+1}
    A: Array  # (state, tile)
    grad_A: Array  # (state, tile)
    grad_D: Array  # (tile,)
    grad_bias: Array  # (tile,)
    row: Array  # (3, tile)


@kernel()
def place(task: int, inputs: Inputs, tile: int) -> tuple[int, int, int, int, int]:
    """Batch element, group, tile of the group, first channel and number of channels of a task."""
    dim, groups = inputs.u.shape[2], inputs.B.shape[2]
    span = dim // groups
    tiles = (span + tile - 1) // tile
    g, k = task // tiles % groups, task % tiles
    return task // (groups * tiles), g, k, g * span + k * tile, min(tile, span - k * tile)


@kernel()
def starts_sequence(inputs: Inputs, options: Options, b: int, t: int) -> bool:
    """Whether the state from before step t belongs to another packed sequence."""
    boundary = t + 1 if options.reverse else t
    return options.packed and boundary < inputs.reset.shape[1] and inputs.reset[b, boundary]


@kernel(fastmath=LANES)
def step_sizes(inputs: Inputs, soft: bool, b: int, t: int, d0: int, width: int, dt: Array) -> None:
    """Fill the first `width` lanes of `dt` with delta after its bias and softplus; the others stay zero."""
    prefer_wide_vectors()
    for j in range(width):
        dt[j] = inputs.delta[b, t, d0 + j] + inputs.delta_bias[d0 + j]
    if soft:
        for j in range(width):
            dt[j] = softplus(dt[j])


@kernel(fastmath=LANES)
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
    prefer_wide_vectors()
    denormals = flush_denormals()
    length, n_state, tile = inputs.u.shape[1], inputs.B.shape[3], options.tile
    h, A = np.zeros((n_state, tile), np.float32), np.zeros((n_state, tile), np.float32)
    dt, x, acc = np.zeros(tile, np.float32), np.zeros(tile, np.float32), np.zeros(tile, np.float32)
    for task in range(first, last):
        b, g, _, d0, width = place(task, inputs, tile)
        A[:], h[:], dt[:], x[:] = ZERO, ZERO, ZERO, ZERO
        for n in range(n_state):
            for j in range(width):
                A[n, j] = inputs.A[d0 + j, n]
                h[n, j] = initial[b, d0 + j, n]
        for s in range(length):
            t = length - 1 - s if options.reverse else s
            if saved.shape[1] > 0 and s % options.segment == 0:
                saved[b, s // options.segment, :, d0 : d0 + width] = h[:, :width]
            if starts_sequence(inputs, options, b, t):
                h[:] = ZERO
            step_sizes(inputs, options.softplus, b, t, d0, width, dt)
            for j in range(width):
                x[j] = dt[j] * inputs.u[b, t, d0 + j]
                acc[j] = inputs.D[d0 + j] * inputs.u[b, t, d0 + j]
            for n in range(n_state):
                b_n, c_n = inputs.B[b, t, g, n], inputs.C[b, t, g, n]
                for j in range(tile):
                    v = exp2(dt[j] * A[n, j]) * h[n, j] + x[j] * b_n
                    h[n, j] = v
                    acc[j] += c_n * v
            if options.gated:
                for j in range(width):
                    acc[j] *= inputs.z[b, t, d0 + j] * sigmoid(inputs.z[b, t, d0 + j])
            for j in range(width):
                y[b, t, d0 + j] = acc[j]
        for j in range(width):
            for n in range(n_state):
                final[b, d0 + j, n] = h[n, j]
    restore_denormals(denormals)


@kernel()
def new_scratch(segment: int, n_state: int, tile: int) -> Scratch:
    """All zeros: lanes beyond a tile's channels are never written and must stay so."""
    return Scratch(
        np.zeros((segment, n_state, tile), np.float32),
        np.zeros((segment, n_state, tile), np.float32),
        np.zeros((segment, tile), np.float32),
        np.zeros((segment, tile), np.float32),
        np.zeros((segment, tile), np.float32),
        np.zeros((n_state, tile), np.float32),
        np.zeros((n_state, tile), np.float32),
        np.zeros((n_state, tile), np.float32),
        np.zeros((n_state, tile), np.float32),
        np.zeros(tile, np.float32),
        np.zeros(tile, np.float32),
        np.zeros((3, tile), np.float32),
    )


@kernel(fastmath=LANES)
def replay(
    task: int,
    start: int,
    stop: int,
    inputs: Inputs,
    options: Options,
    grad_y: Array,
    grads: Gradients,
    keep: Scratch,
) -> None:
    """Run the steps [start, stop) again from `keep.h`, filling `keep`; gives the gradients of C and z."""
    prefer_wide_vectors()
    length, n_state, tile = inputs.u.shape[1], inputs.B.shape[3], options.tile
    b, g, k, d0, width = place(task, inputs, tile)
    x, acc = keep.row[0], keep.row[1]
    for s in range(start, stop):
        t, i = length - 1 - s if options.reverse else s, s - start
        if starts_sequence(inputs, options, b, t):
            keep.h[:] = ZERO
        dt, grad, decay, before = keep.dt[i], keep.g[i], keep.decay[i], keep.before[i]
        step_sizes(inputs, options.softplus, b, t, d0, width, dt)
        for j in range(width):
            keep.u[i, j] = inputs.u[b, t, d0 + j]
            grad[j] = grad_y[b, t, d0 + j]
        if options.gated:
            for j in range(width):
                grad[j] *= inputs.z[b, t, d0 + j] * sigmoid(inputs.z[b, t, d0 + j])
        for j in range(tile):
            x[j] = dt[j] * keep.u[i, j]
            acc[j] = ZERO
        for n in range(n_state):
            b_n, c_n, total = inputs.B[b, t, g, n], inputs.C[b, t, g, n], ZERO
            for j in range(tile):
                a, old = exp2(dt[j] * keep.A[n, j]), keep.h[n, j]
                v = a * old + x[j] * b_n
                decay[n, j] = a
                before[n, j] = old
                keep.h[n, j] = v
                acc[j] += c_n * v
                total += grad[j] * v
            grads.C[k, b, t, g, n] = total
        if options.gated:  # silu'(z) = sigmoid(z) (1 + z (1 - sigmoid(z)))
            for j in range(width):
                z = inputs.z[b, t, d0 + j]
                gate = sigmoid(z)
                ungated = acc[j] + inputs.D[d0 + j] * keep.u[i, j]
                grads.z[b, t, d0 + j] = grad_y[b, t, d0 + j] * ungated * gate * (ONE + z * (ONE - gate))


@kernel(fastmath=LANES)
def sweep(
    task: int, start: int, stop: int, inputs: Inputs, options: Options, grads: Gradients, keep: Scratch
) -> None:
    """Carry the adjoint back over the steps [start, stop) that `replay` has filled `keep` with."""
    prefer_wide_vectors()
    length, n_state, tile = inputs.u.shape[1], inputs.B.shape[3], options.tile
    b, g, k, d0, width = place(task, inputs, tile)
    x, along_B, along_A = keep.row[0], keep.row[1], keep.row[2]
    for s in range(stop - 1, start - 1, -1):
        t, i = length - 1 - s if options.reverse else s, s - start
        dt, u, grad, decay, before = keep.dt[i], keep.u[i], keep.g[i], keep.decay[i], keep.before[i]
        for j in range(tile):
            x[j] = dt[j] * u[j]
            along_B[j] = ZERO
            along_A[j] = ZERO
        for n in range(n_state):
            b_n, c_n, total = inputs.B[b, t, g, n], inputs.C[b, t, g, n], ZERO
            for j in range(tile):
                adjoint = keep.carry[n, j] + c_n * grad[j]
                total += adjoint * x[j]
                along_B[j] += adjoint * b_n
                c = decay[n, j] * adjoint
                q = c * before[n, j]
                along_A[j] += keep.A[n, j] * q
                keep.grad_A[n, j] += dt[j] * q
                keep.carry[n, j] = c
            grads.B[k, b, t, g, n] = total
        if starts_sequence(inputs, options, b, t):
            keep.carry[:] = ZERO
        for j in range(width):
            grads.u[b, t, d0 + j] = dt[j] * along_B[j] + inputs.D[d0 + j] * grad[j]
            keep.grad_D[j] += grad[j] * u[j]
            grad_dt = u[j] * along_B[j] + LN_2 * along_A[j]
            if options.softplus:  # softplus'(x) = 1 - exp(-softplus(x))
                grad_dt *= ONE - exp2(-dt[j] * LOG2_E)
            grads.delta[b, t, d0 + j] = grad_dt
            keep.grad_bias[j] += grad_dt


@kernel(fastmath=LANES)
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
    length, n_state, tile = inputs.u.shape[1], inputs.B.shape[3], options.tile
    for task in range(first, last):
        b, _, _, d0, width = place(task, inputs, tile)
        keep = new_scratch(options.segment, n_state, tile)
        for n in range(n_state):
            for j in range(width):
                keep.A[n, j] = inputs.A[d0 + j, n]
                keep.carry[n, j] = grad_final[b, d0 + j, n]
        for part in range((length - 1) // options.segment, -1, -1):
            start = part * options.segment
            stop = min(start + options.segment, length)
            keep.h[:, :width] = saved[b, part, :, d0 : d0 + width]
            replay(task, start, stop, inputs, options, grad_y, grads, keep)
            sweep(task, start, stop, inputs, options, grads, keep)
        for j in range(width):
            grads.D[b, d0 + j] = keep.grad_D[j]
            grads.delta_bias[b, d0 + j] = keep.grad_bias[j]
            for n in range(n_state):
                grads.A[b, d0 + j, n] = keep.grad_A[n, j]
                grads.initial_state[b, d0 + j, n] = keep.carry[n, j]
    restore_denormals(denormals)
