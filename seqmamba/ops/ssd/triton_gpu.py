"""The state space dual operator on a GPU: tensors in, tensors out, around the Triton kernels.

Forward: running sums of log decays, then one pass that carries the state in registers from block to block.
Where too few sequences and heads fill the device, the sequence is cut into segments whose starting states
come from a pass over their ends. The backward saves nothing but its inputs: it recomputes the state that
enters each block, walks the adjoint the other way, and then takes each block on its own, with the sums over
heads in registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmamba.ops.ssd import tiles
from seqmamba.ops.ssd.reference import per_channel
from seqmamba.ops.ssd.tiles import Tiles
from seqmamba.ops.ssd.triton_gpu_backward import delta_kernel, gradients_kernel
from seqmamba.ops.ssd.triton_gpu_forward import output_kernel, replay_kernel
from seqmamba.ops.ssd.triton_gpu_states import adjoint_kernel, decays_kernel, ends_kernel, starts_kernel
from seqmamba.ops.ssd.triton_types import dot_dtype, dot_precision, triton_dtype

_DECAY_HEADS = 8
_START_ELEMENTS = 256
_LONGEST_STRIDE = 2**24


def rows(x: Tensor) -> Tensor:
    """`x` as the kernels read it: last axis contiguous, offsets inside a block of steps in 32 bits."""
    return x if x.stride(-1) == 1 and abs(x.stride(1)) < _LONGEST_STRIDE else x.contiguous()


@dataclass(frozen=True)
class _Operands:
    """The tensors and flags that every launch needs."""

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    reset: Tensor | None
    softplus: bool
    reverse: bool

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the operands of matrix products."""
        return dot_dtype(self.x, self.B, self.C)

    @property
    def products(self) -> dict[str, Any]:
        """Constants of a kernel that multiplies matrices."""
        wide = self.dtype == torch.float32
        return {"PRECISE": wide, "PRECISION": dot_precision(self.dtype), "DTYPE": triton_dtype(self.dtype)}

    @property
    def multiprocessors(self) -> int:
        """Of the device."""
        return tiles.multiprocessors(self.x.device)

    @property
    def delta_flags(self) -> dict[str, Any]:
        """Constants of a kernel that reads delta."""
        flags = {"HAS_BIAS": self.bias is not None, "HAS_RESET": self.reset is not None}
        return {"SOFTPLUS": self.softplus, "REVERSE": self.reverse, **flags}


@dataclass(frozen=True)
class _Decays:
    """Of each step, in order of processing: (batch, heads, block, step); totals (batch, heads, block)."""

    steps: Tensor
    sums: Tensor
    rest: Tensor | None
    totals: Tensor

    @property
    def blocks(self) -> int:
        return self.totals.shape[2]


def _operands(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    reset: Tensor | None,
    softplus: bool,
    reverse: bool,
) -> _Operands:
    bias = None if bias is None else bias.contiguous()
    reset = None if reset is None else reset.contiguous().view(torch.uint8)
    z, D = None if z is None else rows(z), per_channel(D)
    D = None if D is None else D.expand(x.shape[2:])
    return _Operands(rows(x), delta, A.contiguous(), rows(B), rows(C), D, z, bias, reset, softplus, reverse)


def _heads_grid(o: _Operands, blocks: int) -> tuple[int, int, int]:
    return blocks, o.x.shape[0], -(-o.x.shape[2] // _DECAY_HEADS)


def _decays(o: _Operands) -> _Decays:
    batch, length, heads = o.delta.shape
    block, precise = tiles.block_size(o.dtype), o.dtype == torch.float32
    blocks = -(-length // block)
    shape = (batch, heads, blocks)
    new: dict[str, Any] = {"dtype": torch.float32, "device": o.x.device}
    steps, sums = torch.empty(*shape, block, **new), torch.empty(*shape, block, **new)
    totals, rest = torch.empty(shape, **new), torch.empty_like(sums) if precise else None
    decays_kernel[_heads_grid(o, blocks)](
        o.delta, o.A, o.bias, o.reset, steps, sums, rest, totals, length, blocks, heads, *o.delta.stride(),
        **o.delta_flags, PRECISE=precise, BLOCK=block, HEADS=_DECAY_HEADS, num_warps=4,
    )  # fmt: skip
    return _Decays(steps, sums, rest, totals)


@dataclass(frozen=True)
class _Walk:
    """What a walk over the sequence multiplies: forward x and B, adjoint the gradient of y and C."""

    values: Tensor
    rows: Tensor
    adjoint: bool

    def strides(self) -> tuple[int, ...]:
        """Of batch, length and head or group."""
        return (*self.values.stride()[:3], *self.rows.stride()[:3])


def _sizes(sizes: Tiles) -> dict[str, int]:
    return {"BLOCK": sizes.block, "CHANNELS": sizes.channels, "STATE": sizes.state}


def _channel_tiles(o: _Operands, sizes: Tiles) -> int:
    return -(-o.x.shape[3] // sizes.channels)


def _segment_starts(
    o: _Operands, decays: _Decays, walk: _Walk, entry: Tensor | None, span: int
) -> Tensor | None:
    """State at the start of each segment of `span` blocks, (batch, segment, heads, head_dim, state) float32.

    For the adjoint, at the end of each segment. None stands for zeros.
    """
    batch, _, heads, head_dim = o.x.shape
    n_state, segments = o.B.shape[3], -(-decays.blocks // span)
    entry = None if entry is None else entry.contiguous()
    if segments == 1:
        return entry
    new: dict[str, Any] = {"dtype": torch.float32, "device": o.x.device}
    sizes = tiles.walk_tiles(head_dim, n_state, o.dtype)
    tiles_ = _channel_tiles(o, sizes)
    states = torch.empty(batch, segments, heads, head_dim, n_state, **new)
    totals = torch.empty(batch, segments, heads, **new)
    ends_kernel[(batch * segments * heads * tiles_,)](
        walk.values, walk.rows, decays.steps, decays.sums, decays.rest, decays.totals, states, totals,
        o.x.shape[1], decays.blocks, span, segments, heads, heads // o.B.shape[2], head_dim, n_state, tiles_,
        *walk.strides(), ADJOINT=walk.adjoint, REVERSE=o.reverse, **o.products, **_sizes(sizes),
        LONGEST=tiles.power_of_two(span),
        num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    elements = head_dim * n_state
    starts_kernel[(-(-elements // _START_ELEMENTS), batch * heads)](
        states, totals, entry, segments, heads, elements,
        HAS_ENTRY=entry is not None, ADJOINT=walk.adjoint, SIZE=_START_ELEMENTS, num_warps=4,
    )  # fmt: skip
    return states


def _span(o: _Operands, sizes: Tiles, blocks: int) -> tuple[int, int]:
    """Blocks of a segment, and segments of a sequence."""
    walks = o.x.shape[0] * o.x.shape[2] * _channel_tiles(o, sizes)
    span = tiles.segment_blocks(walks, blocks, o.multiprocessors)
    return span, -(-blocks // span)


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Compute `ssd_reference`: y in x's dtype and the final state in float32."""
    o = _operands(x, delta, A, B, C, D, z, delta_bias, reset, delta_softplus, reverse)
    (batch, length, heads, head_dim), n_state = x.shape, B.shape[3]
    sizes = tiles.output_tiles(head_dim, n_state, o.dtype)
    tiles_ = _channel_tiles(o, sizes)
    with torch.cuda.device_of(x):  # none for the CPU, where Triton's interpreter runs
        decays = _decays(o)
        span, segments = _span(o, sizes, decays.blocks)
        starts = _segment_starts(o, decays, _Walk(o.x, o.B, False), initial_state, span)
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        final = torch.empty(batch, heads, head_dim, n_state, dtype=torch.float32, device=x.device)
        z_strides = (0, 0, 0) if o.z is None else o.z.stride()[:3]
        output_kernel[(batch * segments * heads * tiles_,)](
            o.x, o.z, o.B, o.C, o.D, decays.steps, decays.sums, decays.rest, decays.totals, starts, y, final,
            length, decays.blocks, span, segments, heads, heads // B.shape[2], head_dim, n_state, tiles_,
            *o.x.stride()[:3], *z_strides, *o.B.stride()[:3], *o.C.stride()[:3],
            *((0, 0) if o.D is None else o.D.stride()),
            HAS_START=starts is not None, HAS_D=o.D is not None, HAS_GATE=o.z is not None, REVERSE=reverse,
            **o.products, **_sizes(sizes),
            num_warps=sizes.warps, num_stages=sizes.stages,
        )  # fmt: skip
    return y, final


def backward(
    grad_y: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Gradients of x, delta, A, B, C, D, z, delta_bias, initial_state, each in its dtype, empty if absent."""
    o = _operands(x, delta, A, B, C, D, z, delta_bias, reset, delta_softplus, reverse)
    with torch.cuda.device_of(x):  # none for the CPU, where Triton's interpreter runs
        decays = _decays(o)
        replay = _replay(o, decays, rows(grad_y), initial_state)
        leaving, d_first = _adjoint_states(o, decays, replay.g, grad_final)
        d_x, d_B, d_C, sums = _block_gradients(o, decays, replay.g, replay.entered, leaving)
        del leaving
        d_delta, d_A, d_bias = _delta_gradients(o, decays, (replay.by_read, *sums))
    d_D = x.new_empty(0)
    if D is not None:
        d_D = replay.d_D.sum((0, 1))
        d_D = (d_D.sum(1) if D.ndim == 1 else d_D).to(D.dtype)
    return (
        d_x,
        d_delta,
        d_A.sum((0, 1)).to(A.dtype),
        d_B.sum(0).to(B.dtype) if d_B.shape[0] > 1 else d_B[0],
        d_C.sum(0).to(C.dtype) if d_C.shape[0] > 1 else d_C[0],
        d_D,
        x.new_empty(0) if z is None else replay.d_z,
        x.new_empty(0) if delta_bias is None else d_bias.sum((0, 1)).to(delta_bias.dtype),
        x.new_empty(0) if initial_state is None else d_first.to(initial_state.dtype),
    )


@dataclass(frozen=True)
class _Replay:
    """What `replay_kernel` stores; d_z is of no meaning without a gate, nor d_D without D."""

    entered: Tensor
    g: Tensor
    d_z: Tensor
    d_D: Tensor
    by_read: Tensor


def _replay(o: _Operands, decays: _Decays, grad_y: Tensor, initial_state: Tensor | None) -> _Replay:
    (batch, length, heads, head_dim), n_state = o.x.shape, o.B.shape[3]
    sizes = tiles.replay_tiles(head_dim, n_state, o.dtype)
    tiles_, (span, segments) = _channel_tiles(o, sizes), _span(o, sizes, decays.blocks)
    starts = _segment_starts(o, decays, _Walk(o.x, o.B, False), initial_state, span)
    device, gated = o.x.device, o.z is not None
    entered = torch.empty(batch, decays.blocks, heads, head_dim, n_state, dtype=o.dtype, device=device)
    g = torch.empty(o.x.shape, dtype=o.dtype, device=device) if gated else grad_y
    d_z = torch.empty(o.x.shape, dtype=o.z.dtype, device=device) if o.z is not None else g
    d_D = torch.empty(batch, segments, heads, head_dim, dtype=torch.float32, device=device)
    by_read = torch.empty(tiles_, *decays.steps.shape, dtype=torch.float32, device=device)
    replay_kernel[(batch * segments * heads * tiles_,)](
        o.x, grad_y, o.z, o.B, o.C, o.D, decays.steps, decays.sums, decays.rest, decays.totals, starts,
        entered, g, d_z, d_D, by_read,
        length, decays.blocks, span, segments, heads, heads // o.B.shape[2], head_dim, n_state, tiles_,
        decays.steps.numel(), *o.x.stride()[:3], *grad_y.stride()[:3],
        *((0, 0, 0) if o.z is None else o.z.stride()[:3]), *o.B.stride()[:3], *o.C.stride()[:3],
        *((0, 0) if o.D is None else o.D.stride()),
        HAS_START=starts is not None, HAS_D=o.D is not None, HAS_GATE=gated, REVERSE=o.reverse,
        **o.products, **_sizes(sizes), num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return _Replay(entered, g, d_z, d_D, by_read)


def _adjoint_states(
    o: _Operands, decays: _Decays, g: Tensor, grad_final: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Adjoint of the state that leaves each block, in the dtype of products, and of the first state."""
    (batch, length, heads, head_dim), n_state = o.x.shape, o.B.shape[3]
    sizes = tiles.walk_tiles(head_dim, n_state, o.dtype)
    tiles_, (span, segments) = _channel_tiles(o, sizes), _span(o, sizes, decays.blocks)
    walk = _Walk(g, o.C, True)
    starts = _segment_starts(o, decays, walk, grad_final, span)
    device = o.x.device
    leaving = torch.empty(batch, decays.blocks, heads, head_dim, n_state, dtype=o.dtype, device=device)
    first = torch.empty(batch, heads, head_dim, n_state, dtype=torch.float32, device=device)
    adjoint_kernel[(batch * segments * heads * tiles_,)](
        g, o.C, decays.sums, decays.totals, starts, leaving, first,
        length, decays.blocks, span, segments, heads, heads // o.B.shape[2], head_dim, n_state, tiles_,
        *walk.strides(), HAS_START=starts is not None, REVERSE=o.reverse, **o.products, **_sizes(sizes),
        num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return leaving, first


def _block_gradients(
    o: _Operands, decays: _Decays, g: Tensor, entered: Tensor, leaving: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """Gradients of x, and of B and C for each split of the heads; what `delta_kernel` adds up."""
    (batch, length, heads, head_dim), (groups, n_state) = o.x.shape, o.B.shape[2:]
    sizes = tiles.gradient_tiles(head_dim, n_state, o.dtype)
    tiles_, blocks, device = _channel_tiles(o, sizes), decays.blocks, o.x.device
    splits = tiles.head_splits(blocks * batch * groups, heads // groups, o.multiprocessors)
    d_x = torch.empty(o.x.shape, dtype=o.x.dtype, device=device)
    d_B, d_C = (
        torch.empty(splits, *like.shape, dtype=torch.float32 if splits > 1 else like.dtype, device=device)
        for like in (o.B, o.C)
    )
    by_step, by_pair, by_write = (
        torch.empty(tiles_, *decays.steps.shape, dtype=torch.float32, device=device) for _ in range(3)
    )
    by_block = torch.empty(tiles_, *decays.totals.shape, dtype=torch.float32, device=device)
    gradients_kernel[(blocks, groups * splits, batch)](
        o.x, g, o.B, o.C, o.D, decays.steps, decays.sums, decays.rest, decays.totals, entered, leaving,
        d_x, d_B, d_C, by_step, by_pair, by_write, by_block,
        length, blocks, heads, heads // groups, heads // groups // splits, groups, head_dim, n_state, tiles_,
        decays.steps.numel(), *o.x.stride()[:3], *g.stride()[:3], *o.B.stride()[:3], *o.C.stride()[:3],
        *((0, 0) if o.D is None else o.D.stride()),
        HAS_D=o.D is not None, REVERSE=o.reverse, **o.products, **_sizes(sizes), STAGES=sizes.stages,
        num_warps=sizes.warps,
    )  # fmt: skip
    return d_x, d_B, d_C, (by_step, by_pair, by_write, by_block)


def _delta_gradients(
    o: _Operands, decays: _Decays, sums: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of delta, and those of A and the bias for each block, (batch, block, heads)."""
    (batch, length, heads), blocks, device = o.delta.shape, decays.blocks, o.x.device
    d_delta = torch.empty(o.delta.shape, dtype=o.delta.dtype, device=device)
    d_A, d_bias = (torch.empty(batch, blocks, heads, dtype=torch.float32, device=device) for _ in range(2))
    delta_kernel[_heads_grid(o, blocks)](
        o.delta, o.A, o.bias, o.reset, *sums, d_delta, d_A, d_bias,
        length, blocks, heads, sums[0].shape[0], sums[1].shape[0], decays.steps.numel(), *o.delta.stride(),
        **o.delta_flags, BLOCK=decays.steps.shape[3], HEADS=_DECAY_HEADS, num_warps=4,
    )  # fmt: skip
    return d_delta, d_A, d_bias
