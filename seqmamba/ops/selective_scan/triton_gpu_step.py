# mypy: allow-untyped-defs
"""One step of the selective scan as one Triton kernel."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmamba.ops.decay import LARGEST_LOG_RATE
from seqmamba.ops.triton_math import sigmoid, softplus

_MOST = tl.constexpr(LARGEST_LOG_RATE)
_ELEMENTS = 512  # of the state, a program: small, since a step has little work to spread


@triton.jit
def step_kernel(
    state,
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    delta_bias,
    y,
    new_state,
    dim,
    n_state,
    channels_per_group,
    u_stride,
    delta_stride,
    z_stride,
    B_stride,
    C_stride,
    SOFTPLUS: tl.constexpr,
    LOG: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Compute h' = exp(delta A) h + delta B u and y = (C . h' + D u) silu(z), a tile of channels."""
    tiles = tl.cdiv(dim, CHANNELS)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    channel = (tl.program_id(0) % tiles) * CHANNELS + tl.arange(0, CHANNELS)
    inside, n = channel < dim, tl.arange(0, STATES)[None, :]
    real = inside[:, None] & (n < n_state)

    step = tl.load(delta + batch * delta_stride + channel, mask=inside, other=0.0).to(tl.float32)
    if delta_bias is not None:
        step += tl.load(delta_bias + channel, mask=inside, other=0.0).to(tl.float32)
    if SOFTPLUS:
        step = softplus(step)
    value = tl.load(u + batch * u_stride + channel, mask=inside, other=0.0).to(tl.float32)
    # all is read before the state is written: loads do not overtake stores
    if D is not None:
        skip = tl.load(D + channel, mask=inside, other=0.0).to(tl.float32)
    if z is not None:
        gate = tl.load(z + batch * z_stride + channel, mask=inside, other=0.0).to(tl.float32)

    projection = (channel // channels_per_group)[:, None] * n_state + n
    b = tl.load(B + batch * B_stride + projection, mask=real, other=0.0).to(tl.float32)
    c = tl.load(C + batch * C_stride + projection, mask=real, other=0.0).to(tl.float32)
    a = tl.load(A + channel[:, None] * n_state + n, mask=real, other=0.0).to(tl.float32)
    if LOG:
        a = -tl.exp(tl.minimum(a, _MOST))
    at = (batch * dim + channel[:, None]) * n_state + n
    h = tl.load(state + at, mask=real, other=0.0).to(tl.float32)
    h = tl.exp(step[:, None] * a) * h + (step * value)[:, None] * b
    tl.debug_barrier()  # several threads may hold one element: in place, all must read before one writes
    tl.store(new_state + at, h, mask=real)

    out = tl.sum(c * h, axis=1)
    if D is not None:
        out += skip * value
    if z is not None:
        out *= gate * sigmoid(gate)
    tl.store(y + batch * dim + channel, out, mask=inside)


def step(state: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """Advance the state by one step, in float32; the operands are those of `_launch`."""
    new_state = state.new_empty(state.shape, dtype=torch.float32)
    return _launch(state.contiguous(), new_state, *operands), new_state


def step_in_place(state: Tensor, *operands: Any) -> Tensor:
    """Advance a contiguous float32 state where it is; the operands are those of `_launch`."""
    return _launch(state, state, *operands)


def _launch(
    state: Tensor,
    new_state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    A_is_log: bool = False,
) -> Tensor:
    """Write the new state and return y; B and C are (batch, groups, state)."""
    (batch, dim), n_state = u.shape, A.shape[1]
    u, delta, B, C = _rows(u), _rows(delta), _rows(B), _rows(C)
    z = None if z is None else _rows(z)
    y = u.new_empty(batch, dim)
    states = triton.next_power_of_2(n_state)
    channels = max(1, min(_ELEMENTS // states, triton.next_power_of_2(dim)))
    with torch.cuda.device_of(u):
        step_kernel[(batch * triton.cdiv(dim, channels),)](
            state,
            u,
            delta,
            A.contiguous(),
            B,
            C,
            None if D is None else D.contiguous(),
            z,
            None if delta_bias is None else delta_bias.contiguous(),
            y,
            new_state,
            dim,
            n_state,
            dim // B.shape[1],
            u.stride(0),
            delta.stride(0),
            0 if z is None else z.stride(0),
            B.stride(0),
            C.stride(0),
            SOFTPLUS=delta_softplus,
            LOG=A_is_log,
            CHANNELS=channels,
            STATES=states,
            num_warps=max(1, min(4, channels * states // 128)),
        )
    return y


def _rows(x: Tensor) -> Tensor:
    """`x` itself if each batch element is contiguous, as in a part of a projection, else a copy."""
    return x if x[0].is_contiguous() else x.contiguous()
