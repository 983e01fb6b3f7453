"""A bidirectional Mamba mixer up to its output projection, with a backward pass written by hand.

Autograd adds up the gradients of what several branches read by passes over memory of their own, joins those
of the two halves of the input projection by a copy, and holds both directions' gradients at once. Here
matrix products and the convolution add to what is there, the halves go into two products, and a direction's
tensors are gone before the next one's gradients are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from seqmamba.ops.causal_conv1d.registration import backward_into
from seqmamba.ops.dispatch import refuse_second_derivative

_SPARING: ContextVar[bool] = ContextVar("sparing", default=False)
_WEIGHTS = 7  # of a direction


@contextmanager
def sparing_memory() -> Iterator[None]:
    """Let mixers called in this context compute convolution and step sizes again in the backward pass.

    That takes two fifths off what a block keeps, for a few percent of its time.
    """
    token = _SPARING.set(True)
    try:
        yield
    finally:
        _SPARING.reset(token)


class DirectionWeights(NamedTuple):
    """The weights of one direction.

    Attributes:
        conv: Filters (dim, width).
        conv_bias: (dim,), or None.
        x_proj: (rank + 2 state, dim), of the dtype of the sequences.
        dt_proj: (dim, rank), of the same.
        dt_bias: (dim,).
        A: (dim, state) float32.
        D: (dim,).
    """

    conv: Tensor
    conv_bias: Tensor | None
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor


def mix_both_ways(
    x: Float[Tensor, "batch length dim"],
    in_proj: Float[Tensor, "channels dim"],
    forward: DirectionWeights,
    reverse: DirectionWeights,
    reset: Tensor | None = None,
) -> Float[Tensor, "batch length inner"]:
    """Project in, convolve, select and scan both ways, and gate the sum; on a GPU.

    Args:
        x: Input, bfloat16 or float32.
        in_proj: The projection to what is scanned and to the gate, of the dtype of x.
        forward: Weights of the direction from left to right.
        reverse: Weights of the direction from right to left.
        reset: True where a new packed sequence starts.
    """
    return _MixBothWays.apply(_SPARING.get(), reset, x, in_proj, *forward, *reverse)


class _MixBothWays(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sparing: bool, reset: Tensor | None, x: Tensor, in_proj: Tensor, *weights: Any
    ) -> Tensor:
        ways = _ways(weights)
        inner, z = F.linear(x, in_proj).chunk(2, dim=-1)
        selected = [_select(inner, way, reset, number == 1) for number, way in enumerate(ways)]
        operands = [_operands(*each, way) for each, way in zip(selected, ways, strict=True)]
        y, *states = torch.ops.seqmamba.bidirectional_scan_forward(*operands, z, reset, True, True)
        kept = (
            [None, None, None, None] if sparing else [each for u, _, delta in selected for each in (u, delta)]
        )
        low_ranks = [low_rank for _, low_rank, _ in selected]
        ctx.save_for_backward(reset, x, in_proj, inner, z, y, *states, *low_ranks, *kept, *weights)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        from seqmamba.ops.bidirectional_scan.cuda import Way, way_backward

        refuse_second_derivative("mix_both_ways")
        reset, x, in_proj, inner, z, y, *rest = ctx.saved_tensors
        states, low_ranks, kept, ways = rest[:2], rest[2:4], rest[4:8], _ways(rest[8:])
        found: list[list[Tensor | None]] = [[], []]
        d_inner: Any = None
        d_z: Any = None
        for number in (1, 0):
            way, low_rank = ways[number], low_ranks[number]
            u, delta = kept[2 * number : 2 * number + 2]
            if u is None:
                u = _convolve(inner, way, reset, number == 1)
                delta = F.linear(low_rank[..., : way.dt_proj.shape[1]], way.dt_proj)
            scan = Way(_operands(u, low_rank, delta, way), number == 1)
            options = (z.dtype, z, reset, True, number == 1)
            (d_u, d_delta, *of_scan), d_gate = way_backward(grad_y, y, states[number], scan, *options)
            d_z = d_gate if number == 1 else d_z
            del scan, delta  # the memory is needed
            d_A, d_B, d_C, d_D, d_bias = of_scan
            d_low_rank, d_dt_proj = _through_step_size(d_delta, d_B, d_C, low_rank, way)
            d_x_proj = _rows(d_low_rank).mT @ _rows(u)
            del d_delta, u
            _rows(d_u).addmm_(_rows(d_low_rank), way.x_proj)
            d_inner, d_conv, d_conv_bias = backward_into(
                d_u, inner, way.conv, way.conv_bias, reset, number == 1, d_inner
            )
            del d_u, d_low_rank
            conv_bias = None if way.conv_bias is None else d_conv_bias
            found[number] = [d_conv, conv_bias, d_x_proj, d_dt_proj, d_bias, d_A, d_D]
        of_inner, of_z = in_proj.chunk(2)
        d_x = (_rows(d_inner) @ of_inner).addmm_(_rows(d_z), of_z).view_as(x)
        d_in_proj = torch.cat((_rows(d_inner).mT @ _rows(x), _rows(d_z).mT @ _rows(x)))
        return None, None, d_x, d_in_proj, *found[0], *found[1]


def _ways(weights: Any) -> tuple[DirectionWeights, DirectionWeights]:
    return DirectionWeights(*weights[:_WEIGHTS]), DirectionWeights(*weights[_WEIGHTS:])


def _convolve(inner: Tensor, way: DirectionWeights, reset: Tensor | None, reverse: bool) -> Tensor:
    run = torch.ops.seqmamba.causal_conv1d_forward
    return run(inner, way.conv, way.conv_bias, None, reset, True, reverse)[0]


def _select(
    inner: Tensor, way: DirectionWeights, reset: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return u, what `x_proj` makes of it, and delta before its bias."""
    u = _convolve(inner, way, reset, reverse)
    low_rank = F.linear(u, way.x_proj)
    return u, low_rank, F.linear(low_rank[..., : way.dt_proj.shape[1]], way.dt_proj)


def _operands(u: Tensor, low_rank: Tensor, delta: Tensor, way: DirectionWeights) -> list[Any]:
    """Return what the scan takes; B and C have their group axis."""
    B, C = low_rank[..., None, way.dt_proj.shape[1] :].chunk(2, dim=-1)
    return [u, delta, way.A, B, C, way.D, way.dt_bias]


def _through_step_size(
    d_delta: Tensor, d_B: Tensor, d_C: Tensor, low_rank: Tensor, way: DirectionWeights
) -> tuple[Tensor, Tensor]:
    """Return the gradients of what `x_proj` gives, and of `dt_proj`."""
    rank = way.dt_proj.shape[1]
    d_low_rank = torch.cat((d_delta @ way.dt_proj, d_B.squeeze(2), d_C.squeeze(2)), dim=-1)
    return d_low_rank, _rows(d_delta).mT @ _rows(low_rank)[:, :rank]


def _rows(x: Tensor) -> Tensor:
    """Every position of every sequence as a row."""
    return x.reshape(-1, x.shape[-1])
