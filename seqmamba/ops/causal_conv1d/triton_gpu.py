# mypy: ignore-errors
# ruff: noqa: RET505, RUF005 -- Triton compiles both branches of an early return, and takes no starred tuples
"""The causal convolution's GPU kernels.

A program holds a tile of `ROWS` walkers by `COLUMNS` channels. Each walker goes through `groups * GROUP`
steps of its own, in processing order, with the last `PAST` = WIDTH - 1 inputs in registers, so that every
input is read once (and the few before a walker's first step twice). The loads of a group are issued
together. Lanes hold neighbouring channels: accesses are 16 bytes wide where the channels allow it.

`s` counts steps in processing order; the storage position is s, or length - 1 - s in reverse. A packed
sequence sees nothing before its first step `start`. Offsets that grow with the sequence are 64-bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

NO_BOUNDARY = tl.constexpr(-(1 << 62))  # the `start` of a sequence that goes back to the initial state


@triton.jit
def locate(length, dim, steps, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The batch element, tile of steps and tile of channels of this program; and how many tiles of steps.

    Neighbouring programs take neighbouring channels of the same steps: whole rows are read together.
    """
    column_tiles, step_tiles = tl.cdiv(dim, COLUMNS), tl.cdiv(length, ROWS * steps)
    program = tl.program_id(0)
    rest = program // column_tiles
    batch, tile = (rest // step_tiles).to(tl.int64), (rest % step_tiles).to(tl.int64)
    return batch, tile, program % column_tiles, step_tiles


@triton.jit
def load_filters(weight, dim, column_tile, WIDTH: tl.constexpr, PADDED: tl.constexpr, COLUMNS: tl.constexpr):
    """The taps of the tile's channels, oldest first, each (1, COLUMNS) float32."""
    column, tap = column_tile * COLUMNS + tl.arange(0, COLUMNS)[:, None], tl.arange(0, PADDED)[None, :]
    # one coalesced load taken apart in registers: a load a tap would touch every cache line WIDTH times
    filters = tl.load(weight + column * WIDTH + tap, mask=(column < dim) & (tap < WIDTH), other=0.0)
    taps = ()
    for k in tl.static_range(WIDTH):
        one = tl.sum(tl.where(tap == k, filters.to(tl.float32), 0.0), axis=1)
        taps = taps + (one[None, :],)
    return taps


@triton.jit
def starts_at(reset, s, length, REVERSE: tl.constexpr):
    """Whether step s cannot see the step before; s may lie outside the sequence."""
    if REVERSE:
        return tl.load(reset + (length - s), mask=(s >= 1) & (s < length), other=0) != 0
    else:
        return tl.load(reset + s, mask=(s >= 0) & (s < length), other=0) != 0


@triton.jit
def load_step(
    x, initial_state, s, length, dim, row_stride, column, PAST: tl.constexpr, REVERSE: tl.constexpr
):
    """The inputs of step s in float32, those of the initial state before the first one; zeros elsewhere."""
    position = length - 1 - s if REVERSE else s
    inside = column < dim
    value = tl.load(x + position * row_stride + column, mask=inside & (s >= 0) & (s < length), other=0.0)
    value = value.to(tl.float32)
    if initial_state is not None:
        before = inside & (s < 0) & (s >= -PAST)
        value += tl.load(initial_state + (PAST + s) * dim + column, mask=before, other=0.0).to(tl.float32)
    return value


@triton.jit
def load_window(
    x, initial_state, reset, s, length, dim, row_stride, column, PAST: tl.constexpr, REVERSE: tl.constexpr
):
    """The PAST inputs before step s, oldest first, and the start of their sequence."""
    window = ()
    start = tl.full(s.shape, NO_BOUNDARY, tl.int64)
    for i in tl.static_range(PAST):
        step = s + (i - PAST)
        value = load_step(x, initial_state, step, length, dim, row_stride, column, PAST, REVERSE)
        window = window + (value,)
        if reset is not None:
            start = tl.where(starts_at(reset, step, length, REVERSE), step, start)
    return window, start


@triton.jit
def convolve(window, taps, bias, s, start, WIDTH: tl.constexpr, PACKED: tl.constexpr):
    """The convolution at step s before its activation; the window's last entry is the input of s."""
    value = bias + window[WIDTH - 1] * taps[WIDTH - 1]
    for k in tl.static_range(WIDTH - 1):
        seen = window[k]
        if PACKED:
            seen = tl.where(s + (k + 1 - WIDTH) >= start, seen, 0.0)
        value += seen * taps[k]
    return value


@triton.jit
def sigmoid(v, FAST: tl.constexpr):
    """The logistic function; FAST takes 5 instructions in place of 14 and flushes results below 2^-126."""
    if FAST:
        return tl.inline_asm_elementwise(
            "{ .reg .f32 e; mul.f32 e, $1, 0fBFB8AA3B; ex2.approx.ftz.f32 e, e;"
            " add.f32 e, e, 0f3F800000; rcp.approx.ftz.f32 $0, e; }",
            "=f,f",
            [v],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    else:
        return 1.0 / (1.0 + tl.exp(-v))


@triton.jit
def through_silu(grad, v, FAST: tl.constexpr):
    """The gradient of v, given that of silu(v) = v sigmoid(v)."""
    gate = sigmoid(v, FAST)
    return grad * (gate + v * gate * (1.0 - gate))


@triton.jit
def conv_forward(
    x,
    weight,
    bias,
    initial_state,
    reset,
    y,
    final_state,
    length,
    dim,
    batch_stride,
    row_stride,
    groups,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    SILU: tl.constexpr,
    REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
    FAST: tl.constexpr,
):
    """Write y, and in each last tile of steps the final state (batch, PAST, dim) float32."""
    PAST: tl.constexpr = WIDTH - 1
    batch, tile, column_tile, step_tiles = locate(length, dim, groups * GROUP, ROWS, COLUMNS)
    column = column_tile * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    taps = load_filters(weight, dim, column_tile, WIDTH, PADDED, COLUMNS)
    offset = tl.zeros([1, COLUMNS], tl.float32)
    if bias is not None:
        offset = tl.load(bias + column, mask=column < dim, other=0.0).to(tl.float32)
    x += batch * batch_stride
    y += batch * length * dim
    if initial_state is not None:
        initial_state += batch * PAST * dim
    if reset is not None:
        reset += batch * length

    s = (tile * ROWS + tl.arange(0, ROWS)[:, None]) * (groups * GROUP)
    window, start = load_window(x, initial_state, reset, s, length, dim, row_stride, column, PAST, REVERSE)
    for _ in range(groups):
        loaded = ()
        for i in tl.static_range(GROUP):
            loaded = loaded + (load_step(x, None, s + i, length, dim, row_stride, column, PAST, REVERSE),)
        for i in tl.static_range(GROUP):
            step = s + i
            if reset is not None:
                start = tl.where(starts_at(reset, step, length, REVERSE), step, start)
            window = window + (loaded[i],)
            value = convolve(window, taps, offset, step, start, WIDTH, reset is not None)
            if SILU:
                value *= sigmoid(value, FAST)
            position = length - 1 - step if REVERSE else step
            tl.store(y + position * dim + column, value, mask=(column < dim) & (step < length))
            window = window[1:]
        s += GROUP

    if tile == step_tiles - 1:
        end = tl.full([1, 1], 0, tl.int64) + length
        kept, since = load_window(
            x, initial_state, reset, end, length, dim, row_stride, column, PAST, REVERSE
        )
        tl.debug_barrier()  # where a step is in place, all threads must have read the old state by now
        for i in tl.static_range(PAST):
            last = tl.where(end + (i - PAST) >= since, kept[i], 0.0)
            tl.store(final_state + (batch * PAST + i) * dim + column, last, mask=column < dim)


@triton.jit
def approach(
    x,
    grad_y,
    initial_state,
    reset,
    s,
    length,
    dim,
    row_stride,
    grad_row_stride,
    column,
    taps,
    offset,
    WIDTH: tl.constexpr,
    SILU: tl.constexpr,
    REVERSE: tl.constexpr,
    FAST: tl.constexpr,
):
    """What a walker of the backward holds before step s, from the PAST steps before it.

    Returns the window, the sums of the gradients that wait for p_s and later ones, and the sequence's start.
    """
    PAST: tl.constexpr = WIDTH - 1
    PACKED: tl.constexpr = reset is not None
    window, start = load_window(
        x, initial_state, reset, s - PAST, length, dim, row_stride, column, PAST, REVERSE
    )
    waiting = ()
    for i in tl.static_range(PAST):
        step = s + (i - PAST)
        if PACKED:
            start = tl.where(starts_at(reset, step, length, REVERSE), step, start)
        window = window + (load_step(x, initial_state, step, length, dim, row_stride, column, PAST, REVERSE),)
        p = load_step(grad_y, None, step, length, dim, grad_row_stride, column, PAST, REVERSE)
        if SILU:
            p = through_silu(p, convolve(window, taps, offset, step, start, WIDTH, PACKED), FAST)
        updated = ()
        for k in tl.static_range(i):
            seen = p
            if PACKED:
                seen = tl.where(s + (k - PAST) >= start, p, 0.0)
            updated = updated + (waiting[k] + seen * taps[PAST - i + k],)
        waiting = updated + (p * taps[PAST],)
        window = window[1:]
    return window, waiting, start


@triton.jit
def conv_backward(
    grad_y,
    grad_final,
    x,
    weight,
    bias,
    initial_state,
    reset,
    grad_x,
    grad_initial,
    partials,
    length,
    dim,
    batch_stride,
    row_stride,
    grad_batch_stride,
    grad_row_stride,
    groups,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    SILU: tl.constexpr,
    REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
    FAST: tl.constexpr,
    ACCUMULATE: tl.constexpr = False,
):
    """Write the gradients of x and of the initial state, and for each tile of steps those of the filters.

    With ACCUMULATE the gradient of x is added to what `grad_x` holds. One program owns each of its places.

    With v the convolution before its activation and p_s the gradient of v_s, input s - PAST has its whole
    gradient once p_s is known: walkers carry the sums of the PAST inputs that wait for more. The last PAST
    inputs, which the final state holds too, are left to the last tile of steps. `partials` is (programs of
    a channel, WIDTH + 1, dim): the taps, oldest first, then the bias.
    """
    PAST: tl.constexpr = WIDTH - 1
    PACKED: tl.constexpr = reset is not None
    batch, tile, column_tile, step_tiles = locate(length, dim, groups * GROUP, ROWS, COLUMNS)
    column = column_tile * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    taps = load_filters(weight, dim, column_tile, WIDTH, PADDED, COLUMNS)
    offset = tl.zeros([1, COLUMNS], tl.float32)
    if bias is not None:
        offset = tl.load(bias + column, mask=column < dim, other=0.0).to(tl.float32)
    x += batch * batch_stride
    grad_y += batch * grad_batch_stride
    grad_x += batch * length * dim
    grad_final += batch * PAST * dim
    if initial_state is not None:
        initial_state += batch * PAST * dim
        grad_initial += batch * PAST * dim
    if reset is not None:
        reset += batch * length

    s = (tile * ROWS + tl.arange(0, ROWS)[:, None]) * (groups * GROUP)
    window, waiting, start = approach(
        x,
        grad_y,
        initial_state,
        reset,
        s,
        length,
        dim,
        row_stride,
        grad_row_stride,
        column,
        taps,
        offset,
        WIDTH,
        SILU,
        REVERSE,
        FAST,
    )
    zero = tl.zeros([ROWS, COLUMNS], tl.float32)
    grad_bias = zero
    grad_taps = ()
    for _ in tl.static_range(WIDTH):
        grad_taps = grad_taps + (zero,)
    for _ in range(groups):
        inputs = ()
        grads = ()
        for i in tl.static_range(GROUP):
            inputs = inputs + (load_step(x, None, s + i, length, dim, row_stride, column, PAST, REVERSE),)
            grad = load_step(grad_y, None, s + i, length, dim, grad_row_stride, column, PAST, REVERSE)
            grads = grads + (grad,)
        for i in tl.static_range(GROUP):
            step = s + i
            if PACKED:
                start = tl.where(starts_at(reset, step, length, REVERSE), step, start)
            window = window + (inputs[i],)
            p = grads[i]
            if SILU:
                p = through_silu(p, convolve(window, taps, offset, step, start, WIDTH, PACKED), FAST)
            if bias is not None:
                grad_bias += p
            waiting = waiting + (zero,)
            updated = ()
            updated_taps = ()
            for k in tl.static_range(WIDTH):
                seen = p
                if PACKED:
                    seen = tl.where(step + (k - PAST) >= start, p, 0.0)
                updated = updated + (waiting[k] + seen * taps[k],)
                updated_taps = updated_taps + (grad_taps[k] + seen * window[k],)
            grad_taps = updated_taps
            window = window[1:]
            waiting = updated[1:]

            # updated[0] is the gradient of input step - PAST
            before = step - PAST
            position = length - 1 - before if REVERSE else before
            inside = (column < dim) & (before < length - PAST)
            place = grad_x + position * dim + column
            own = updated[0]
            if ACCUMULATE:
                own += tl.load(place, mask=inside & (before >= 0), other=0.0).to(tl.float32)
            tl.store(place, own, mask=inside & (before >= 0))
            if initial_state is not None:
                tl.store(grad_initial + step * dim + column, updated[0], mask=inside & (before < 0))
        s += GROUP

    if tile == step_tiles - 1:
        end = tl.full([1, 1], 0, tl.int64) + length
        _held, left, since = approach(
            x,
            grad_y,
            initial_state,
            reset,
            end,
            length,
            dim,
            row_stride,
            grad_row_stride,
            column,
            taps,
            offset,
            WIDTH,
            SILU,
            REVERSE,
            FAST,
        )
        for i in tl.static_range(PAST):
            last = end + (i - PAST)
            kept = (column < dim) & (last >= since)
            whole = left[i] + tl.load(grad_final + i * dim + column, mask=kept, other=0.0)
            where = grad_x + (length - 1 - last if REVERSE else last) * dim + column
            own = whole
            if ACCUMULATE:
                own += tl.load(where, mask=(column < dim) & (last >= 0), other=0.0).to(tl.float32)
            tl.store(where, own, mask=(column < dim) & (last >= 0))
            if initial_state is not None:
                tl.store(grad_initial + (PAST + last) * dim + column, whole, mask=(column < dim) & (last < 0))

    partials += (batch * step_tiles + tile) * (WIDTH + 1) * dim + column
    for k in tl.static_range(WIDTH):
        tl.store(partials + k * dim, tl.sum(grad_taps[k], axis=0)[None, :], mask=column < dim)
    if bias is not None:
        tl.store(partials + WIDTH * dim, tl.sum(grad_bias, axis=0)[None, :], mask=column < dim)
