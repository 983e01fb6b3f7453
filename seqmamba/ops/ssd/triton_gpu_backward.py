"""The Triton kernels of the gradients: every block on its own, given the states at its edges."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmamba.ops.ssd.triton_gpu_forward import decay_between
from seqmamba.ops.ssd.triton_gpu_states import (
    RESET,
    load_raw_step,
    load_reset,
    load_rows,
    log2_decay,
    sigmoid,
    softplus,
)


@triton.jit
def gradients_kernel(
    x, grad_y, z, B, C, D, steps, sums, rest, totals, entered, leaving,
    d_x, d_z, d_B, d_C, d_D, by_step, by_suffix, by_prefix, by_block,
    length, blocks, heads, per_group, per_split, groups, head_dim, n_state, tiles, lines,
    xb, xl, xh, yb, yl, yh, zb, zl, zh, bb, bl, bg, cb, cl, cg, dh, dp,
    HAS_D: tl.constexpr, HAS_GATE: tl.constexpr, REVERSE: tl.constexpr, PRECISE: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
    STATE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Gradients of one block for some heads of one group.

    With h the state that enters the block, l the adjoint of the state that leaves it, g the gradient of y before
    the gate and w_ij the decay from step j to step i:
      d_x_j = delta_j (sum_i C_i.B_j w_ij g_i + w_end,j l B_j) + D g_j
      d_C_i = sum_j delta_j w_ij (g_i.x_j) B_j + w_i,start h^T g_i, and d_B_j alike, both summed over heads.
    The log decay of step t multiplies every pair that t lies between: its gradient is a sum over i >= t of the
    pairs' row sums less column sums, over i >= t of what h adds to y_i, over j < t of what x_j adds to the
    leaving state, and of h . l. These go to by_suffix, by_prefix and by_block, and the gradient of delta as a
    factor of x to by_step; `delta_kernel` adds them up.
    """
    block, batch = tl.program_id(0), tl.program_id(2).to(tl.int64)
    splits = per_group // per_split
    group, split = tl.program_id(1) // splits, tl.program_id(1) % splits
    offset, n = tl.arange(0, BLOCK), tl.arange(0, STATE)
    q = block * BLOCK + offset
    valid, real_n = q < length, n < n_state
    t = (length - 1 - q if REVERSE else q).to(tl.int64)
    inside_n = valid[:, None] & real_n[None, :]
    wide_group = group.to(tl.int64)
    b = load_rows(B + batch * bb + wide_group * bg, t, bl, n, inside_n).to(DTYPE)
    c = load_rows(C + batch * cb + wide_group * cg, t, cl, n, inside_n).to(DTYPE)
    scores = tl.dot(c, tl.trans(b), input_precision=PRECISION)

    d_scores = tl.zeros((BLOCK, BLOCK), dtype=tl.float32)
    sum_B = tl.zeros((BLOCK, STATE), dtype=tl.float32)
    sum_C = tl.zeros((BLOCK, STATE), dtype=tl.float32)
    first = (group * per_group + split * per_split) * tiles
    for part in tl.range(first, first + per_split * tiles, num_stages=STAGES):
        head, tile = part // tiles, part % tiles
        wide_head = head.to(tl.int64)
        p = tile * CHANNELS + tl.arange(0, CHANNELS)
        real_p = p < head_dim
        inside = valid[:, None] & real_p[None, :]
        line = batch * heads + head
        row = (line * blocks + block) * BLOCK
        value = load_rows(x + batch * xb + wide_head * xh, t, xl, p, inside)
        upstream = load_rows(grad_y + batch * yb + wide_head * yh, t, yl, p, inside)
        edge = ((batch * blocks + block) * heads + head) * head_dim * n_state
        element = edge + p[:, None] * n_state + n[None, :]
        real = real_p[:, None] & real_n[None, :]
        h = tl.load(entered + element, mask=real, other=0.0)
        adjoint = tl.load(leaving + element, mask=real, other=0.0)
        dt, since_start = tl.load(steps + row + offset), tl.load(sums + row + offset)
        to_end = tl.load(sums + row + BLOCK - 1) - since_start
        if PRECISE:
            to_end += tl.load(rest + row + BLOCK - 1) - tl.load(rest + row + offset)
        from_start, to_end = tl.exp2(since_start), tl.exp2(to_end)
        decay = decay_between(sums, rest, row, BLOCK, PRECISE)
        wide, grad = value.to(tl.float32), upstream.to(tl.float32)
        weights = (scores * decay * dt[None, :]).to(DTYPE)
        read = tl.dot(c, tl.trans(h), input_precision=PRECISION)
        at = batch * length * heads * head_dim + wide_head * head_dim
        at = at + t[:, None] * heads * head_dim + p[None, :]
        if HAS_D:
            skip = tl.load(D + head * dh + p * dp, mask=real_p, other=0.0).to(tl.float32)
        if HAS_GATE:
            gate = load_rows(z + batch * zb + wide_head * zh, t, zl, p, inside).to(tl.float32)
            s = sigmoid(gate)
            y = tl.dot(weights, value.to(DTYPE), read * from_start[:, None], input_precision=PRECISION)
            if HAS_D:
                y += wide * skip[None, :]
            slope = s * (1.0 + gate * (1.0 - s))
            tl.store(d_z + at, (grad * y * slope).to(d_z.dtype.element_ty), mask=inside)
            grad *= gate * s
        g = grad.to(DTYPE)

        pairs = tl.dot(g, tl.trans(value.to(DTYPE)), input_precision=PRECISION) * decay
        d_scores += pairs * dt[None, :]
        pairs *= scores
        carried = tl.dot(b, tl.trans(adjoint), input_precision=PRECISION)
        d_value = carried * (to_end * dt)[:, None]
        d_value = tl.dot(tl.trans(weights), g, d_value, input_precision=PRECISION)
        if HAS_D:
            d_value += grad * skip[None, :]
            # (batch, block, heads, head_dim): the caller sums over the first two, and over the last if it must
            at_D = ((batch * blocks + block) * heads + head) * head_dim + p
            tl.store(d_D + at_D, tl.sum(grad * wide, axis=0), mask=real_p)
        tl.store(d_x + at, d_value.to(d_x.dtype.element_ty), mask=inside)

        columns = tl.sum(pairs, axis=0)
        suffix = tl.sum(pairs * dt[None, :], axis=1) + from_start * tl.sum(grad * read, axis=1) - dt * columns
        prefix = to_end * tl.sum(wide * carried, axis=1)
        vector = tile.to(tl.int64) * lines + row + offset
        tl.store(by_step + vector, columns + prefix)
        tl.store(by_suffix + vector, suffix)
        tl.store(by_prefix + vector, prefix * dt)
        through = tl.sum(tl.sum(h.to(tl.float32) * adjoint.to(tl.float32), axis=1), axis=0)
        through *= tl.exp2(tl.load(totals + line * blocks + block))
        tl.store(by_block + tile.to(tl.int64) * (lines // BLOCK) + line * blocks + block, through)

        sum_C = tl.dot((grad * from_start[:, None]).to(DTYPE), h, sum_C, input_precision=PRECISION)
        sum_B = tl.dot(
            (wide * (to_end * dt)[:, None]).to(DTYPE), adjoint, sum_B, input_precision=PRECISION
        )

    d_scores = d_scores.to(DTYPE)
    sum_C = tl.dot(d_scores, b, sum_C, input_precision=PRECISION)
    sum_B = tl.dot(tl.trans(d_scores), c, sum_B, input_precision=PRECISION)
    # (split, batch, length, groups, state)
    at_n = (split * tl.num_programs(2) + batch) * length * groups * n_state + group * n_state
    at_n = at_n + t[:, None] * groups * n_state + n[None, :]
    tl.store(d_B + at_n, sum_B.to(d_B.dtype.element_ty), mask=inside_n)
    tl.store(d_C + at_n, sum_C.to(d_C.dtype.element_ty), mask=inside_n)


@triton.jit
def delta_kernel(
    delta, A, bias, reset, by_step, by_suffix, by_prefix, by_block, d_delta, d_A, d_bias,
    length, blocks, heads, tiles, lines, db, dl, dh,
    SOFTPLUS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESET: tl.constexpr, REVERSE: tl.constexpr,
    BLOCK: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Gradient of delta, and for each block those of A and the bias, (batch, block, heads)."""
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
    direct = tl.zeros((BLOCK, HEADS), dtype=tl.float32)
    suffix, prefix = direct, direct
    through = tl.zeros((HEADS,), dtype=tl.float32)
    for tile in range(tiles):
        start = tl.cast(tile, tl.int64) * lines
        direct += tl.load(by_step + start + at, mask=inside, other=0.0)
        suffix += tl.load(by_suffix + start + at, mask=inside, other=0.0)
        prefix += tl.load(by_prefix + start + at, mask=inside, other=0.0)
        through += tl.load(by_block + start // BLOCK + row, mask=real_head, other=0.0)
    d_log = tl.cumsum(suffix, axis=0, reverse=True) + tl.cumsum(prefix, axis=0) - prefix + through[None, :]
    # at a decay of zero the sums leave rounding behind
    d_log = tl.where(log2_decay(dt, raw_A, dropped, HAS_RESET) > -RESET, d_log, 0.0)
    grad = tl.where(inside, (direct + raw_A[None, :] * d_log) * slope, 0.0)
    t = (length - 1 - q if REVERSE else q).to(tl.int64)
    to = (batch.to(tl.int64) * length + t[:, None]) * heads + head[None, :]
    tl.store(d_delta + to, grad.to(d_delta.dtype.element_ty), mask=inside)
    partial = (batch.to(tl.int64) * blocks + block) * heads + head
    tl.store(d_A + partial, tl.sum(tl.where(inside, dt * d_log, 0.0), axis=0), mask=real_head)
    if HAS_BIAS:
        tl.store(d_bias + partial, tl.sum(grad, axis=0), mask=real_head)
