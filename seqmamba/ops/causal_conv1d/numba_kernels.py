"""The causal convolution's CPU kernels.

A task is one batch element and one tile of channels; time runs serially, the innermost loops over channels.
`s` counts steps in processing order and `t` is the storage position, so tap number `lag` reads step s - lag.
`reach` is how many earlier steps of the same packed sequence step s can see; before the first step lies the
initial state, as far as the filter is wide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from seqmamba.ops.numba_math import kernel, prefer_wide_vectors, sigmoid

Array = np.ndarray

ZERO = np.float32(0.0)
ONE = np.float32(1.0)


class Inputs(NamedTuple):
    """The operands, contiguous; absent ones are zeros (bias, initial_state) or empty (reset)."""

    x: Array  # (batch, length, dim)
    weight: Array  # (width, dim), latest tap first
    bias: Array  # (dim,)
    initial_state: Array  # (batch, width-1, dim)
    reset: Array  # (batch, length) bool


class Options(NamedTuple):
    """How to convolve."""

    silu: bool
    packed: bool
    reverse: bool
    tile: int


class Gradients(NamedTuple):
    """What the backward writes; those of parameters for each batch element."""

    x: Array  # (batch, length, dim)
    weight: Array  # (batch, width, dim)
    bias: Array  # (batch, dim)
    initial_state: Array  # (batch, width-1, dim)


@kernel()
def visible(inputs: Inputs, options: Options, b: int, s: int, reach: int) -> int:
    """`reach` of step s, given that of step s - 1 (of the first one: whatever the filter can see)."""
    length, past = inputs.x.shape[1], inputs.weight.shape[0] - 1
    boundary = length - s if options.reverse else s
    if options.packed and boundary < length and inputs.reset[b, boundary]:
        return 0
    return min(reach + 1, past)


@kernel()
def convolve(
    inputs: Inputs, options: Options, b: int, s: int, reach: int, d0: int, width: int, acc: Array
) -> None:
    """Fill `acc` with step s before the activation."""
    prefer_wide_vectors()
    length, past = inputs.x.shape[1], inputs.weight.shape[0] - 1
    for j in range(width):
        acc[j] = inputs.bias[d0 + j]
    for lag in range(reach + 1):
        t = s - lag
        if t >= 0:
            t = length - 1 - t if options.reverse else t
            for j in range(width):
                acc[j] += inputs.weight[lag, d0 + j] * inputs.x[b, t, d0 + j]
        else:
            for j in range(width):
                acc[j] += inputs.weight[lag, d0 + j] * inputs.initial_state[b, past + t, d0 + j]


@kernel()
def conv_forward(first: int, last: int, inputs: Inputs, options: Options, y: Array, final: Array) -> None:
    """Convolve the tasks [first, last): y and the state to continue from (batch, width-1, dim)."""
    prefer_wide_vectors()
    _, length, dim = inputs.x.shape
    past, tiles = inputs.weight.shape[0] - 1, (dim + options.tile - 1) // options.tile
    acc = np.zeros(options.tile, np.float32)
    for task in range(first, last):
        b, d0 = task // tiles, task % tiles * options.tile
        width, reach = min(options.tile, dim - d0), past
        for s in range(length):
            reach = visible(inputs, options, b, s, reach)
            convolve(inputs, options, b, s, reach, d0, width, acc)
            t = length - 1 - s if options.reverse else s
            if options.silu:
                for j in range(width):
                    y[b, t, d0 + j] = acc[j] * sigmoid(acc[j])
            else:
                for j in range(width):
                    y[b, t, d0 + j] = acc[j]
        for lag in range(past):
            t, row = length - 1 - lag, past - 1 - lag
            if lag > reach:
                final[b, row, d0 : d0 + width] = ZERO
            elif t >= 0:
                t = length - 1 - t if options.reverse else t
                final[b, row, d0 : d0 + width] = inputs.x[b, t, d0 : d0 + width]
            else:
                final[b, row, d0 : d0 + width] = inputs.initial_state[b, past + t, d0 : d0 + width]


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
    """Write the gradients of the tasks [first, last): each step hands its gradient to the steps it read."""
    prefer_wide_vectors()
    _, length, dim = inputs.x.shape
    past, tiles = inputs.weight.shape[0] - 1, (dim + options.tile - 1) // options.tile
    acc = np.zeros(options.tile, np.float32)
    for task in range(first, last):
        b, d0 = task // tiles, task % tiles * options.tile
        width, reach = min(options.tile, dim - d0), past
        grads.weight[b, :, d0 : d0 + width] = ZERO
        grads.bias[b, d0 : d0 + width] = ZERO
        grads.initial_state[b, :, d0 : d0 + width] = ZERO
        for s in range(length):
            reach = visible(inputs, options, b, s, reach)
            t = length - 1 - s if options.reverse else s
            if options.silu:  # silu'(v) = sigmoid(v) (1 + v (1 - sigmoid(v)))
                convolve(inputs, options, b, s, reach, d0, width, acc)
                for j in range(width):
                    gate = sigmoid(acc[j])
                    acc[j] = grad_y[b, t, d0 + j] * gate * (ONE + acc[j] * (ONE - gate))
            else:
                for j in range(width):
                    acc[j] = grad_y[b, t, d0 + j]
            for j in range(width):
                grads.bias[b, d0 + j] += acc[j]
                grads.x[b, t, d0 + j] = ZERO
            spread(inputs, options, b, s, reach, d0, width, acc, grads)
        for lag in range(min(reach + 1, past)):
            t, row = length - 1 - lag, past - 1 - lag
            if t >= 0:
                t = length - 1 - t if options.reverse else t
                for j in range(width):
                    grads.x[b, t, d0 + j] += grad_final[b, row, d0 + j]
            else:
                for j in range(width):
                    grads.initial_state[b, past + t, d0 + j] += grad_final[b, row, d0 + j]


@kernel()
def spread(
    inputs: Inputs,
    options: Options,
    b: int,
    s: int,
    reach: int,
    d0: int,
    width: int,
    grad: Array,
    grads: Gradients,
) -> None:
    """Add the gradient of step s before its activation to what it read: the transpose of `convolve`."""
    prefer_wide_vectors()
    length, past = inputs.x.shape[1], inputs.weight.shape[0] - 1
    for lag in range(reach + 1):
        t = s - lag
        if t >= 0:
            t = length - 1 - t if options.reverse else t
            for j in range(width):
                grads.x[b, t, d0 + j] += inputs.weight[lag, d0 + j] * grad[j]
                grads.weight[b, lag, d0 + j] += inputs.x[b, t, d0 + j] * grad[j]
        else:
            for j in range(width):
                grads.initial_state[b, past + t, d0 + j] += inputs.weight[lag, d0 + j] * grad[j]
                grads.weight[b, lag, d0 + j] += inputs.initial_state[b, past + t, d0 + j] * grad[j]
