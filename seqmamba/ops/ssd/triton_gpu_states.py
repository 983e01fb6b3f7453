# mypy: allow-untyped-defs
"""Triton kernels that carry states, and their adjoints, along the sequence.

Steps are counted in the order of processing: step q is position q of storage, or length-1-q in reverse.
Decays are kept as running sums of log2 decays within a block; a reset is a log2 decay of -RESET, whose power
is zero in float32. Past the end the step size is zero and the decay one.
"""

from __future__ import annotations

import triton
import triton.language as tl

from seqmamba.ops.triton_math import LOG2_E, softplus

RESET = tl.constexpr(256.0)
# Decays below this power of two are taken for zero where that saves work or spares the result rounding
# errors.
NEGLIGIBLE = tl.constexpr(-64.0)


@triton.jit
def load_raw_step(
    delta,
    bias,
    q,
    valid,
    head,
    real_head,
    batch,
    length,
    db,
    dl,
    dh,
    HAS_BIAS: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """Delta after its bias, (block, heads), for steps q, before softplus."""
    t = (length - 1 - q if REVERSE else q).to(tl.int64)
    at = batch.to(tl.int64) * db + t[:, None] * dl + head.to(tl.int64)[None, :] * dh
    raw = tl.load(delta + at, mask=valid[:, None] & real_head[None, :], other=0.0).to(tl.float32)
    if HAS_BIAS:
        raw += tl.load(bias + head, mask=real_head, other=0.0).to(tl.float32)[None, :]
    return raw


@triton.jit
def load_reset(reset, q, valid, batch, length, REVERSE: tl.constexpr):
    """Whether the state is dropped on the way into steps q."""
    # in reverse t is entered from t + 1, and the boundary between them belongs to t + 1
    t = (length - q if REVERSE else q).to(tl.int64)
    inside = valid & (t < length)
    return tl.load(reset + batch.to(tl.int64) * length + t, mask=inside, other=0) != 0


@triton.jit
def log2_decay(dt, raw_A, dropped, HAS_RESET: tl.constexpr):
    """log2 of the decay of each step, (block, heads), at least -RESET."""
    a = tl.maximum(dt * (raw_A * LOG2_E)[None, :], -RESET)
    if HAS_RESET:
        a = tl.where(dropped[:, None], -RESET, a)
    return a


@triton.jit
def decays_kernel(
    delta, A, bias, reset, steps, sums, rest, totals, length, blocks, heads, db, dl, dh,
    SOFTPLUS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESET: tl.constexpr, REVERSE: tl.constexpr,
    PRECISE: tl.constexpr, BLOCK: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Step sizes, running sums of log2 decays in each block and their totals, (batch, heads, step).

    With PRECISE the sums are of float64, and what float32 cannot hold of them goes to `rest`: their
    differences count, and may be small where the sums are large.
    """
    block, batch = tl.program_id(0), tl.program_id(1)
    head = tl.program_id(2) * HEADS + tl.arange(0, HEADS)
    real_head = head < heads
    q = block * BLOCK + tl.arange(0, BLOCK)
    valid = q < length
    dt = load_raw_step(delta, bias, q, valid, head, real_head, batch, length, db, dl, dh, HAS_BIAS, REVERSE)
    if SOFTPLUS:
        dt = softplus(dt)
    dt = tl.where(valid[:, None], dt, 0.0)
    dropped = valid
    if HAS_RESET:
        dropped = load_reset(reset, q, valid, batch, length, REVERSE)
    raw_A = tl.load(A + head, mask=real_head, other=0.0).to(tl.float32)
    a = log2_decay(dt, raw_A, dropped, HAS_RESET)
    row = (batch.to(tl.int64) * heads + head) * blocks + block
    at = row[None, :] * BLOCK + tl.arange(0, BLOCK)[:, None]
    tl.store(steps + at, dt, mask=real_head[None, :])
    if PRECISE:
        exact = tl.cumsum(a.to(tl.float64), axis=0)
        high = exact.to(tl.float32)
        tl.store(sums + at, high, mask=real_head[None, :])
        tl.store(rest + at, (exact - high.to(tl.float64)).to(tl.float32), mask=real_head[None, :])
    else:
        tl.store(sums + at, tl.cumsum(a, axis=0), mask=real_head[None, :])
    tl.store(totals + row, tl.sum(a, axis=0), mask=real_head)


@triton.jit
def weights_to_end(sums, rest, at, last, PRECISE: tl.constexpr):
    """log2 of the decay from each step to the end of its block."""
    exponent = tl.load(sums + last) - tl.load(sums + at)
    if PRECISE:
        exponent += tl.load(rest + last) - tl.load(rest + at)
    return exponent


@triton.jit
def block_steps(block, length, BLOCK: tl.constexpr, REVERSE: tl.constexpr):
    """Where a block is stored: position of its first step, of each step beyond it, and which steps exist.

    The first is 64 bits wide, the second 32, which saves registers wherever a tile of addresses is held.
    """
    offset = tl.arange(0, BLOCK)
    first = block * BLOCK
    valid = offset < length - first
    if REVERSE:
        return (length - 1 - first).to(tl.int64), -offset, valid
    return first.to(tl.int64), offset, valid


@triton.jit
def load_rows(pointer, first, local, row_stride, column, inside):
    """A tile (rows, columns) whose rows are `row_stride` apart and whose columns are neighbours."""
    offsets = local[:, None] * row_stride + column[None, :]
    return tl.load(pointer + first * row_stride + offsets, mask=inside, other=0.0)


@triton.jit
def store_rows(pointer, tile, first, local, row_stride, column, inside):
    """Store what `load_rows` would load, in the dtype that is there."""
    offsets = local[:, None] * row_stride + column[None, :]
    tl.store(pointer + first * row_stride + offsets, tile.to(pointer.dtype.element_ty), mask=inside)


@triton.jit
def weighted_outer(
    values, rows, steps, sums, rest, block, line, blocks, length, carry, v_stride, r_stride,
    p, real_p, n, real_n, ADJOINT: tl.constexpr, REVERSE: tl.constexpr, PRECISE: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr, acc,
):  # fmt: skip
    """Add to acc (channels, state) a block's sum of values_q rows_q^T, each decayed to the block's edge.

    Forward: delta_q x_q B_q^T decayed to the block's end. Adjoint: g_q C_q^T decayed to the block's start,
    where g is the gradient of the output before its gate. `carry` is log2 of a further decay.
    """
    start, local, valid = block_steps(block, length, BLOCK, REVERSE)
    at = (line * blocks + block) * BLOCK + tl.arange(0, BLOCK)
    value = load_rows(values, start, local, v_stride, p, valid[:, None] & real_p[None, :]).to(tl.float32)
    row = load_rows(rows, start, local, r_stride, n, valid[:, None] & real_n[None, :]).to(DTYPE)
    if ADJOINT:
        weight = tl.exp2(tl.load(sums + at) + carry)
    else:
        last = (line * blocks + block) * BLOCK + BLOCK - 1
        weight = tl.load(steps + at) * tl.exp2(weights_to_end(sums, rest, at, last, PRECISE) + carry)
    scaled = (value * weight[:, None]).to(DTYPE)
    return tl.dot(tl.trans(scaled), row, acc, input_precision=PRECISION)


@triton.jit
def ends_kernel(
    values, rows, steps, sums, rest, totals, ends, segment_totals,
    length, blocks, segment_blocks, segments, heads: tl.constexpr, per_group: tl.constexpr,
    head_dim: tl.constexpr, n_state: tl.constexpr, tiles: tl.constexpr,
    vb, vl: tl.constexpr, vh: tl.constexpr, rb, rl: tl.constexpr, rg: tl.constexpr,
    ADJOINT: tl.constexpr, REVERSE: tl.constexpr, PRECISE: tl.constexpr,
    PRECISION: tl.constexpr, DTYPE: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
    STATE: tl.constexpr, LONGEST: tl.constexpr,
):  # fmt: skip
    """Each segment's own part of the state at its end (of the adjoint at its start): as if it began at zero.

    Walks away from that edge and stops where nothing that follows can still be seen from it.
    """
    program = tl.program_id(0)
    tile = program % tiles
    head = (program // tiles) % heads
    segment = (program // tiles // heads) % segments
    batch = (program // tiles // heads // segments).to(tl.int64)
    p, n = tile * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATE)
    real_p, real_n = p < head_dim, n < n_state
    line = batch * heads + head
    values += batch * vb + head.to(tl.int64) * vh
    rows += batch * rb + (head // per_group).to(tl.int64) * rg
    first = segment * segment_blocks
    count = tl.minimum(segment_blocks, blocks - first)

    index = tl.arange(0, LONGEST)
    # blocks by their distance from the edge, and log2 of the decay between them and it
    at = first + index if ADJOINT else first + count - 1 - index
    total = tl.load(totals + line * blocks + at, mask=index < count, other=0.0)
    between = tl.cumsum(total, axis=0) - total
    seen = tl.max(tl.where((index < count) & (between >= NEGLIGIBLE), index, 0), axis=0) + 1
    row = (batch * segments + segment) * heads + head
    tl.store(segment_totals + row, tl.maximum(tl.sum(total, axis=0), -RESET))

    acc = tl.zeros((CHANNELS, STATE), dtype=tl.float32)
    carry = 0.0
    for i in range(seen):
        block = first + i if ADJOINT else first + count - 1 - i
        acc = weighted_outer(
            values, rows, steps, sums, rest, block, line, blocks, length, carry, vl, rl,
            p, real_p, n, real_n, ADJOINT, REVERSE, PRECISE, PRECISION, DTYPE, BLOCK, acc,
        )  # fmt: skip
        carry += tl.load(totals + line * blocks + block)
    element = p[:, None] * n_state + n[None, :]
    tl.store(ends + row * head_dim * n_state + element, acc, mask=real_p[:, None] & real_n[None, :])


@triton.jit
def starts_kernel(
    states, segment_totals, entry, segments, heads: tl.constexpr, elements,
    HAS_ENTRY: tl.constexpr, ADJOINT: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Replace each segment's own end state by the true state at its start."""
    element = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    line = tl.program_id(1).to(tl.int64)
    batch, head = line // heads, line % heads
    real = element < elements
    carry = tl.zeros((SIZE,), dtype=tl.float32)
    if HAS_ENTRY:
        carry = tl.load(entry + line * elements + element, mask=real, other=0.0).to(tl.float32)
    for i in tl.range(0, segments, num_stages=4):
        segment = segments - 1 - i if ADJOINT else i
        row = (batch * segments + segment) * heads + head
        own = tl.load(states + row * elements + element, mask=real, other=0.0)
        total = tl.load(segment_totals + row)
        tl.store(states + row * elements + element, carry, mask=real)
        carry = carry * tl.exp2(total) + own


@triton.jit
def adjoint_kernel(
    grad, C, sums, totals, starts, leaving, first_adjoint,
    length, blocks, segment_blocks, segments, heads: tl.constexpr, per_group: tl.constexpr,
    head_dim: tl.constexpr, n_state: tl.constexpr, tiles: tl.constexpr,
    vb, vl: tl.constexpr, vh: tl.constexpr, rb, rl: tl.constexpr, rg: tl.constexpr,
    HAS_START: tl.constexpr, REVERSE: tl.constexpr, PRECISE: tl.constexpr, PRECISION: tl.constexpr,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """Store the adjoint of the state that leaves each block, (batch, block, heads, head_dim, state).

    One segment, from its last block to its first: l <- decay l + sum over the block of g_q C_q^T.
    """
    program = tl.program_id(0)
    tile = program % tiles
    head = (program // tiles) % heads
    segment = (program // tiles // heads) % segments
    batch = (program // tiles // heads // segments).to(tl.int64)
    p, n = tile * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATE)
    real_p, real_n = p < head_dim, n < n_state
    line = batch * heads + head
    grad += batch * vb + head.to(tl.int64) * vh
    C += batch * rb + (head // per_group).to(tl.int64) * rg
    first = segment * segment_blocks
    count = tl.minimum(segment_blocks, blocks - first)
    element = p[:, None] * n_state + n[None, :]
    real = real_p[:, None] & real_n[None, :]

    acc = tl.zeros((CHANNELS, STATE), dtype=tl.float32)
    if HAS_START:
        row = (batch * segments + segment) * heads + head
        acc = tl.load(starts + row * head_dim * n_state + element, mask=real, other=0.0).to(tl.float32)
    for i in range(count):
        block = first + count - 1 - i
        row = (batch * blocks + block) * heads + head
        tl.store(leaving + row * head_dim * n_state + element, acc.to(DTYPE), mask=real)
        acc *= tl.exp2(tl.load(totals + line * blocks + block))
        acc = weighted_outer(
            grad, C, sums, sums, sums, block, line, blocks, length, 0.0, vl, rl,
            p, real_p, n, real_n, True, REVERSE, PRECISE, PRECISION, DTYPE, BLOCK, acc,
        )  # fmt: skip
    if segment == 0:
        tl.store(first_adjoint + line * head_dim * n_state + element, acc, mask=real)
