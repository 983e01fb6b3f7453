"""The Triton kernel of the output: one pass over the sequence, with the state in registers."""

from __future__ import annotations

import triton
import triton.language as tl

from seqmamba.ops.ssd.triton_gpu_states import load_rows, sigmoid


@triton.jit
def decay_between(sums, rest, row, BLOCK: tl.constexpr, PRECISE: tl.constexpr):
    """(step, earlier step): the decay from one step of a block to a later or the same one, else zero."""
    offset = tl.arange(0, BLOCK)
    high = tl.load(sums + row + offset)
    exponent = high[:, None] - high[None, :]
    if PRECISE:
        low = tl.load(rest + row + offset)
        exponent += low[:, None] - low[None, :]
    # masked before the power, which could overflow there
    return tl.exp2(tl.where(offset[:, None] >= offset[None, :], exponent, float("-inf")))


@triton.jit
def output_kernel(
    x, z, B, C, D, steps, sums, rest, totals, starts, y, final,
    length, blocks, segment_blocks, segments, heads, per_group, head_dim, n_state, tiles,
    xb, xl, xh, zb, zl, zh, bb, bl, bg, cb, cl, cg, dh, dp,
    HAS_START: tl.constexpr, HAS_D: tl.constexpr, HAS_GATE: tl.constexpr, REVERSE: tl.constexpr,
    PRECISE: tl.constexpr, PRECISION: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr,
    CHANNELS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """y = (h C + D x) silu(z) of one segment, block by block, and the state after the last step."""
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
    for i in range(0, count):
        block = first + i
        q = block * BLOCK + offset
        valid = q < length
        t = (length - 1 - q if REVERSE else q).to(tl.int64)
        inside, inside_n = valid[:, None] & real_p[None, :], valid[:, None] & real_n[None, :]
        row = (line * blocks + block) * BLOCK
        value = load_rows(x, t, xl, p, inside)
        b = load_rows(B, t, bl, n, inside_n).to(DTYPE)
        c = load_rows(C, t, cl, n, inside_n).to(DTYPE)
        dt, total = tl.load(steps + row + offset), tl.load(totals + line * blocks + block)
        since_start = tl.load(sums + row + offset)
        to_end = tl.load(sums + row + BLOCK - 1) - since_start
        if PRECISE:
            to_end += tl.load(rest + row + BLOCK - 1) - tl.load(rest + row + offset)
        scores = tl.dot(c, tl.trans(b), input_precision=PRECISION)
        scores *= decay_between(sums, rest, row, BLOCK, PRECISE) * dt[None, :]
        out = tl.dot(c, tl.trans(state.to(DTYPE)), input_precision=PRECISION) * tl.exp2(since_start)[:, None]
        out = tl.dot(scores.to(DTYPE), value.to(DTYPE), out, input_precision=PRECISION)
        wide = value.to(tl.float32)
        if HAS_D:
            out += wide * skip[None, :]
        if HAS_GATE:
            gate = load_rows(z, t, zl, p, inside).to(tl.float32)
            out *= gate * sigmoid(gate)
        at = t[:, None] * heads * head_dim + p[None, :]
        tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)
        weighted = (wide * (dt * tl.exp2(to_end))[:, None]).to(DTYPE)
        state = tl.dot(tl.trans(weighted), b, state * tl.exp2(total), input_precision=PRECISION)
    if segment == segments - 1:
        tl.store(final + line * head_dim * n_state + element, state, mask=real)
