# mypy: allow-untyped-defs
"""The Triton kernels that pass over the sequence with the state in registers: the output, and its replay."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmamba.ops.ssd.triton_gpu_states import block_steps, load_rows, store_rows
from seqmamba.ops.triton_math import sigmoid


@triton.jit
def decay_between(
    sums, rest, row, BLOCK: tl.constexpr, PRECISE: tl.constexpr, EARLIER_FIRST: tl.constexpr
):  # fmt: skip
    """(step, earlier step), or with the axes swapped: the decay between them, zero if not earlier."""
    offset = tl.arange(0, BLOCK)
    high = tl.load(sums + row + offset)
    sign: tl.constexpr = -1.0 if EARLIER_FIRST else 1.0
    exponent = (high[:, None] - high[None, :]) * sign
    if PRECISE:
        low = tl.load(rest + row + offset)
        exponent += (low[:, None] - low[None, :]) * sign
    if EARLIER_FIRST:
        reached = offset[:, None] <= offset[None, :]
    else:
        reached = offset[:, None] >= offset[None, :]
    # masked before the power, which could overflow there
    return tl.exp2(tl.where(reached, exponent, float("-inf")))


@triton.jit
def output_kernel(
    x, z, B, C, D, steps, sums, rest, totals, starts, y, final,
    length, blocks, segment_blocks, segments, heads: tl.constexpr, per_group: tl.constexpr,
    head_dim: tl.constexpr, n_state: tl.constexpr, tiles: tl.constexpr,
    xb, xl: tl.constexpr, xh: tl.constexpr, zb, zl: tl.constexpr, zh: tl.constexpr, bb, bl: tl.constexpr,
    bg: tl.constexpr, cb, cl: tl.constexpr, cg: tl.constexpr, dh: tl.constexpr, dp: tl.constexpr,
    HAS_START: tl.constexpr, HAS_D: tl.constexpr, HAS_GATE: tl.constexpr, REVERSE: tl.constexpr,
    PRECISE: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Y = (h C + D x) silu(z) of one segment, block by block, and the state after the last step."""
    program = tl.program_id(0)
    tile = program % tiles
    head = (program // tiles) % heads
    segment = (program // tiles // heads) % segments
    batch = (program // tiles // heads // segments).to(tl.int64)
    offset = tl.arange(0, BLOCK)
    p, n = tile * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATE)
    real_p, real_n = p < head_dim, n < n_state
    line, wide_head = batch * heads + head, head.to(tl.int64)
    group = (head // per_group).to(tl.int64)
    x += batch * xb + wide_head * xh
    B += batch * bb + group * bg
    C += batch * cb + group * cg
    y += batch * length * heads * head_dim + head * head_dim
    if HAS_GATE:
        z += batch * zb + wide_head * zh
    if HAS_D:
        skip = tl.load(D + head * dh + p * dp, mask=real_p, other=0.0).to(tl.float32)
    first = segment * segment_blocks
    count = tl.minimum(segment_blocks, blocks - first)
    element = p[:, None] * n_state + n[None, :]
    real = real_p[:, None] & real_n[None, :]

    state = tl.zeros((CHANNELS, STATE), dtype=tl.float32)
    if HAS_START:
        row = (batch * segments + segment) * heads + head
        state = tl.load(starts + row * head_dim * n_state + element, mask=real, other=0.0).to(tl.float32)
    for i in range(count):
        block = first + i
        start, local, valid = block_steps(block, length, BLOCK, REVERSE)
        inside, inside_n = valid[:, None] & real_p[None, :], valid[:, None] & real_n[None, :]
        row = (line * blocks + block) * BLOCK
        value = load_rows(x, start, local, xl, p, inside)
        b = load_rows(B, start, local, bl, n, inside_n).to(DTYPE)
        c = load_rows(C, start, local, cl, n, inside_n).to(DTYPE)
        dt, total = tl.load(steps + row + offset), tl.load(totals + line * blocks + block)
        since_start = tl.load(sums + row + offset)
        to_end = tl.load(sums + row + BLOCK - 1) - since_start
        if PRECISE:
            to_end += tl.load(rest + row + BLOCK - 1) - tl.load(rest + row + offset)
        scores = tl.dot(c, tl.trans(b), input_precision=PRECISION)
        scores *= decay_between(sums, rest, row, BLOCK, PRECISE, False) * dt[None, :]
        read = tl.dot(c, tl.trans(state.to(DTYPE)), input_precision=PRECISION)
        # products are added here, not in the product: chained ones would be given to one half of the warps
        out = tl.dot(scores.to(DTYPE), value.to(DTYPE), input_precision=PRECISION)
        out += read * tl.exp2(since_start)[:, None]
        wide = value.to(tl.float32)
        if HAS_D:
            out += wide * skip[None, :]
        if HAS_GATE:
            gate = load_rows(z, start, local, zl, p, inside).to(tl.float32)
            out *= gate * sigmoid(gate)
        store_rows(y, out, start, local, heads * head_dim, p, inside)
        weighted = (wide * (dt * tl.exp2(to_end))[:, None]).to(DTYPE)
        state = state * tl.exp2(total) + tl.dot(tl.trans(weighted), b, input_precision=PRECISION)
    if segment == segments - 1:
        tl.store(final + line * head_dim * n_state + element, state, mask=real)


@triton.jit
def replay_kernel(
    x, grad_y, z, B, C, D, steps, sums, rest, totals, starts, entered, g, d_z, d_D, by_read,
    length, blocks, segment_blocks, segments, heads: tl.constexpr, per_group: tl.constexpr,
    head_dim: tl.constexpr, n_state: tl.constexpr, tiles: tl.constexpr, lines,
    xb, xl: tl.constexpr, xh: tl.constexpr, yb, yl: tl.constexpr, yh: tl.constexpr, zb, zl: tl.constexpr,
    zh: tl.constexpr, bb, bl: tl.constexpr, bg: tl.constexpr, cb, cl: tl.constexpr, cg: tl.constexpr,
    dh: tl.constexpr, dp: tl.constexpr,
    HAS_START: tl.constexpr, HAS_D: tl.constexpr, HAS_GATE: tl.constexpr, REVERSE: tl.constexpr,
    PRECISE: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Walk one segment again for the backward: what needs the state, and the state that enters each block.

    Stores g, the gradient of y before its gate; the gradients of the gate and of D; and to by_read, for each
    step, g . (the entering state's part of y), which is one of the terms of the gradient of the log decays.
    """
    program = tl.program_id(0)
    tile = program % tiles
    head = (program // tiles) % heads
    segment = (program // tiles // heads) % segments
    batch = (program // tiles // heads // segments).to(tl.int64)
    offset = tl.arange(0, BLOCK)
    p, n = tile * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATE)
    real_p, real_n = p < head_dim, n < n_state
    line, wide_head = batch * heads + head, head.to(tl.int64)
    group = (head // per_group).to(tl.int64)
    x += batch * xb + wide_head * xh
    grad_y += batch * yb + wide_head * yh
    B += batch * bb + group * bg
    C += batch * cb + group * cg
    to = batch * length * heads * head_dim + head * head_dim
    if HAS_GATE:
        z += batch * zb + wide_head * zh
    if HAS_D:
        skip = tl.load(D + head * dh + p * dp, mask=real_p, other=0.0).to(tl.float32)
    first = segment * segment_blocks
    count = tl.minimum(segment_blocks, blocks - first)
    element = p[:, None] * n_state + n[None, :]
    real = real_p[:, None] & real_n[None, :]
    by_read += tl.cast(tile, tl.int64) * lines

    sum_D = tl.zeros((CHANNELS,), dtype=tl.float32)
    state = tl.zeros((CHANNELS, STATE), dtype=tl.float32)
    begin = (batch * segments + segment) * heads + head
    if HAS_START:
        state = tl.load(starts + begin * head_dim * n_state + element, mask=real, other=0.0).to(tl.float32)
    for i in range(count):
        block = first + i
        start, local, valid = block_steps(block, length, BLOCK, REVERSE)
        inside, inside_n = valid[:, None] & real_p[None, :], valid[:, None] & real_n[None, :]
        row = (line * blocks + block) * BLOCK
        value = load_rows(x, start, local, xl, p, inside)
        b = load_rows(B, start, local, bl, n, inside_n).to(DTYPE)
        c = load_rows(C, start, local, cl, n, inside_n).to(DTYPE)
        grad = load_rows(grad_y, start, local, yl, p, inside).to(tl.float32)
        dt, total = tl.load(steps + row + offset), tl.load(totals + line * blocks + block)
        since_start = tl.load(sums + row + offset)
        to_end = tl.load(sums + row + BLOCK - 1) - since_start
        if PRECISE:
            to_end += tl.load(rest + row + BLOCK - 1) - tl.load(rest + row + offset)
        wide, half = value.to(tl.float32), state.to(DTYPE)
        edge = (batch * blocks + block) * heads + head
        tl.store(entered + edge * head_dim * n_state + element, half, mask=real)
        read = tl.dot(c, tl.trans(half), input_precision=PRECISION) * tl.exp2(since_start)[:, None]
        if HAS_GATE:
            scores = tl.dot(c, tl.trans(b), input_precision=PRECISION)
            scores *= decay_between(sums, rest, row, BLOCK, PRECISE, False) * dt[None, :]
            out = read + tl.dot(scores.to(DTYPE), value.to(DTYPE), input_precision=PRECISION)
            if HAS_D:
                out += wide * skip[None, :]
            gate = load_rows(z, start, local, zl, p, inside).to(tl.float32)
            s = sigmoid(gate)
            slope = s * (1.0 + gate * (1.0 - s))
            store_rows(d_z + to, grad * out * slope, start, local, heads * head_dim, p, inside)
            grad *= gate * s
            store_rows(g + to, grad, start, local, heads * head_dim, p, inside)
        tl.store(by_read + row + offset, tl.sum(grad * read, axis=1))
        if HAS_D:
            sum_D += tl.sum(grad * wide, axis=0)
        weighted = (wide * (dt * tl.exp2(to_end))[:, None]).to(DTYPE)
        state = state * tl.exp2(total) + tl.dot(tl.trans(weighted), b, input_precision=PRECISION)
    if HAS_D:
        tl.store(d_D + begin * head_dim + p, sum_D, mask=real_p)
