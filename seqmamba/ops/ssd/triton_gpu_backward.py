# mypy: allow-untyped-defs
"""The Triton kernels of the gradients: every block on its own, given the states at its edges."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmamba.ops.ssd.triton_gpu_forward import decay_between
from seqmamba.ops.ssd.triton_gpu_states import (
    NEGLIGIBLE,
    block_steps,
    load_raw_step,
    load_reset,
    load_rows,
    log2_decay,
    store_rows,
)
from seqmamba.ops.triton_math import sigmoid, softplus


@triton.jit
def gradients_kernel(
    x, g, B, C, D, steps, sums, rest, totals, entered, leaving,
    d_x, d_B, d_C, by_step, by_pair, by_write, by_block,
    length, blocks, heads: tl.constexpr, per_group: tl.constexpr, per_split: tl.constexpr,
    groups: tl.constexpr, head_dim: tl.constexpr, n_state: tl.constexpr, tiles: tl.constexpr, lines,
    xb, xl: tl.constexpr, xh: tl.constexpr, yb, yl: tl.constexpr, yh: tl.constexpr, bb, bl: tl.constexpr,
    bg: tl.constexpr, cb, cl: tl.constexpr, cg: tl.constexpr, dh: tl.constexpr, dp: tl.constexpr,
    HAS_D: tl.constexpr, REVERSE: tl.constexpr, PRECISE: tl.constexpr, PRECISION: tl.constexpr,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr, STATE: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Gradients of one block for some heads of one group.

    With h the state that enters the block, l the adjoint of the state that leaves it, g the gradient of y
    before its gate and w_ij the decay from step j to step i:
      d_x_j = delta_j (sum_i C_i.B_j w_ij g_i + w_end,j l B_j) + D g_j
      d_C_i = sum_j delta_j w_ij (g_i.x_j) B_j + w_i,start h^T g_i, and d_B_j alike, both summed over heads.
    For `delta_kernel` go out, for each step: to by_step, what delta scales, (l B_j) x_j and the pairs
    (C_i.B_j w_ij)(g_i.x_j) summed over i; to by_pair, these pairs, i after j, summed as the later step less
    summed as the earlier; to by_write, the part of x in the leaving state as l sees it, without delta. For
    each block goes out l . h, decayed, to by_block. Tiles of pairs are (earlier step j, step i): the products
    then take their first operand as it was loaded.
    """
    block, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    splits = per_group // per_split
    group, split = tl.program_id(1) // splits, tl.program_id(1) % splits
    offset, n = tl.arange(0, BLOCK), tl.arange(0, STATE)
    start, local, valid = block_steps(block, length, BLOCK, REVERSE)
    real_n = n < n_state
    inside_n = valid[:, None] & real_n[None, :]
    wide_group = group.to(tl.int64)
    b = load_rows(B + batch * bb + wide_group * bg, start, local, bl, n, inside_n).to(DTYPE)
    c = load_rows(C + batch * cb + wide_group * cg, start, local, cl, n, inside_n).to(DTYPE)
    scores = tl.dot(b, tl.trans(c), input_precision=PRECISION)
    scores = tl.where(offset[:, None] <= offset[None, :], scores, 0.0)

    d_scores = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    sum_B = tl.zeros((BLOCK, STATE), dtype=tl.float32)
    sum_C = tl.zeros((BLOCK, STATE), dtype=tl.float32)
    first = (group * per_group + split * per_split) * tiles
    for part in tl.range(first, first + per_split * tiles, num_stages=STAGES):
        head, tile = part // tiles, part % tiles
        wide_head = tl.cast(head, tl.int64)
        p = tile * CHANNELS + tl.arange(0, CHANNELS)
        real_p = p < head_dim
        inside = valid[:, None] & real_p[None, :]
        line = batch * heads + head
        row = (line * blocks + block) * BLOCK
        value = load_rows(x + batch * xb + wide_head * xh, start, local, xl, p, inside).to(DTYPE)
        grad = load_rows(g + batch * yb + wide_head * yh, start, local, yl, p, inside).to(DTYPE)
        edge = ((batch * blocks + block) * heads + head) * head_dim * n_state
        element = p[:, None] * n_state + n[None, :]
        real = real_p[:, None] & real_n[None, :]
        h = tl.load(entered + edge + element, mask=real, other=0.0)
        adjoint = tl.load(leaving + edge + element, mask=real, other=0.0)
        dt, since_start = tl.load(steps + row + offset), tl.load(sums + row + offset)
        to_end = tl.load(sums + row + BLOCK - 1) - since_start
        if PRECISE:
            to_end += tl.load(rest + row + BLOCK - 1) - tl.load(rest + row + offset)
        to_end = tl.exp2(to_end)
        decay = decay_between(sums, rest, row, BLOCK, PRECISE, True)

        pairs = tl.dot(value, tl.trans(grad), input_precision=PRECISION) * decay
        d_scores += pairs * dt[:, None]
        pairs *= scores
        direct = tl.sum(pairs, axis=1)
        # a step's pair with itself does not decay; left in, it would have to cancel below
        pairs = tl.where(offset[:, None] < offset[None, :], pairs, 0.0)
        rows = tl.sum(pairs * dt[:, None], axis=0)
        columns = tl.sum(pairs, axis=1)
        carried = tl.dot(b, tl.trans(adjoint), input_precision=PRECISION)
        written = to_end * tl.sum(value.to(tl.float32) * carried, axis=1)
        d_value = tl.dot((scores * decay).to(DTYPE), grad, input_precision=PRECISION) * dt[:, None]
        d_value += carried * (to_end * dt)[:, None]
        if HAS_D:
            skip = tl.load(D + head * dh + p * dp, mask=real_p, other=0.0).to(tl.float32)
            d_value += grad.to(tl.float32) * skip[None, :]
        at = batch * length * heads * head_dim + wide_head * head_dim
        store_rows(d_x + at, d_value, start, local, heads * head_dim, p, inside)

        vector = tl.cast(tile, tl.int64) * lines + row + offset
        tl.store(by_step + vector, direct + written)
        tl.store(by_pair + vector, rows - dt * columns)
        tl.store(by_write + vector, written)
        through = tl.sum(tl.sum(h.to(tl.float32) * adjoint.to(tl.float32), axis=1), axis=0)
        through *= tl.exp2(tl.load(totals + line * blocks + block))
        tl.store(by_block + tl.cast(tile, tl.int64) * (lines // BLOCK) + line * blocks + block, through)

        sum_C += tl.dot(grad, h, input_precision=PRECISION) * tl.exp2(since_start)[:, None]
        sum_B += tl.dot(value, adjoint, input_precision=PRECISION) * (to_end * dt)[:, None]

    d_scores = d_scores.to(DTYPE)
    sum_B = tl.dot(d_scores, c, sum_B, input_precision=PRECISION)
    sum_C = tl.dot(tl.trans(d_scores), b, sum_C, input_precision=PRECISION)
    # (split, batch, length, groups, state)
    at_n = (split * tl.num_programs(2) + batch) * length * groups * n_state + group * n_state
    store_rows(d_B + at_n, sum_B, start, local, groups * n_state, n, inside_n)
    store_rows(d_C + at_n, sum_C, start, local, groups * n_state, n, inside_n)


@triton.jit
def delta_kernel(
    delta, A, bias, reset, by_read, by_step, by_pair, by_write, by_block, d_delta, d_A, d_bias,
    length, blocks, heads: tl.constexpr, read_tiles: tl.constexpr, tiles: tl.constexpr, lines, db,
    dl: tl.constexpr, dh: tl.constexpr,
    SOFTPLUS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESET: tl.constexpr, REVERSE: tl.constexpr,
    BLOCK: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Gradient of delta, and for each block those of A and the bias, (batch, block, heads).

    Delta scales what its step adds, and through A the log decay. The log decay of step t multiplies every
    pair of steps that t lies between: its gradient is the sum over i >= t of the pairs' row sums less column
    sums and of what the entering state adds to y_i, over j < t of what x_j adds to the leaving state, and of
    what the entering state adds to the leaving one. Row and column sums are of the same pairs: what cancels
    is exact.
    """
    block, batch = tl.program_id(0), tl.program_id(1)
    head = tl.program_id(2) * HEADS + tl.arange(0, HEADS)
    real_head = head < heads
    offset = tl.arange(0, BLOCK)
    q = block * BLOCK + offset
    valid = q < length
    raw = load_raw_step(delta, bias, q, valid, head, real_head, batch, length, db, dl, dh, HAS_BIAS, REVERSE)
    dt, slope = raw, tl.full((BLOCK, HEADS), 1.0, dtype=tl.float32)
    if SOFTPLUS:
        dt, slope = softplus(raw), sigmoid(raw)
    raw_A = tl.load(A + head, mask=real_head, other=0.0).to(tl.float32)
    dropped = valid
    if HAS_RESET:
        dropped = load_reset(reset, q, valid, batch, length, REVERSE)

    row = (batch.to(tl.int64) * heads + head) * blocks + block
    at = row[None, :] * BLOCK + offset[:, None]
    inside = real_head[None, :] & valid[:, None]
    suffix = tl.zeros((BLOCK, HEADS), dtype=tl.float32)
    direct, written = suffix, suffix
    through = tl.zeros((HEADS,), dtype=tl.float32)
    for tile in range(read_tiles):
        suffix += tl.load(by_read + tl.cast(tile, tl.int64) * lines + at, mask=inside, other=0.0)
    for tile in range(tiles):
        start = tl.cast(tile, tl.int64) * lines
        suffix += tl.load(by_pair + start + at, mask=inside, other=0.0)
        direct += tl.load(by_step + start + at, mask=inside, other=0.0)
        written += tl.load(by_write + start + at, mask=inside, other=0.0)
        through += tl.load(by_block + start // BLOCK + row, mask=real_head, other=0.0)
    prefix = dt * written
    d_log = tl.cumsum(suffix, axis=0, reverse=True) + tl.cumsum(prefix, axis=0) - prefix + through[None, :]
    # where next to nothing passes a step, next to nothing is its gradient, but for rounding of the sums
    passes = log2_decay(dt, raw_A, dropped, HAS_RESET) > NEGLIGIBLE
    d_log = tl.where(passes, d_log, 0.0)
    grad = tl.where(inside, (direct + raw_A[None, :] * d_log) * slope, 0.0)
    t = (length - 1 - q if REVERSE else q).to(tl.int64)
    to = (batch.to(tl.int64) * length + t[:, None]) * heads + head[None, :]
    tl.store(d_delta + to, grad.to(d_delta.dtype.element_ty), mask=inside)
    partial = (batch.to(tl.int64) * blocks + block) * heads + head
    tl.store(d_A + partial, tl.sum(tl.where(inside, dt * d_log, 0.0), axis=0), mask=real_head)
    if HAS_BIAS:
        tl.store(d_bias + partial, tl.sum(grad, axis=0), mask=real_head)
