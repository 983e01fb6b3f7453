# mypy: allow-untyped-defs
"""One step of the state space dual operator as one Triton kernel."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmamba.ops.decay import LARGEST_LOG_RATE
from seqmamba.ops.ssd.reference import per_channel
from seqmamba.ops.ssd.tiles import power_of_two
from seqmamba.ops.ssd.triton_gpu import rows
from seqmamba.ops.triton_math import LOG2_E, sigmoid, softplus

_MOST = tl.constexpr(LARGEST_LOG_RATE)
_ELEMENTS = 2048  # of the state, a program


@triton.jit
def step_kernel(
    state, x, delta, A, B, C, D, z, bias, y, new_state, heads, per_group, head_dim, n_state,
    xb, xh, db, dh, zb, zh, bb, bg, cb, cg, Dh, Dp,
    SOFTPLUS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_D: tl.constexpr, HAS_GATE: tl.constexpr,
    LOG: tl.constexpr, CHANNELS: tl.constexpr, STATE: tl.constexpr,
):  # fmt: skip
    """H = exp(delta A) h + delta x B^T and y = (h C + D x) silu(z) for some channels of one head."""
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    p, n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.arange(0, STATE)
    real_p, real_n = p < head_dim, n < n_state
    group = head // per_group
    dt = tl.load(delta + batch * db + head * dh).to(tl.float32)
    if HAS_BIAS:
        dt += tl.load(bias + head).to(tl.float32)
    if SOFTPLUS:
        dt = softplus(dt)
    rate = tl.load(A + head).to(tl.float32)
    if LOG:
        rate = -tl.exp(tl.minimum(rate, _MOST))
    decay = tl.exp2(dt * rate * LOG2_E)
    value = tl.load(x + batch * xb + head * xh + p, mask=real_p, other=0.0).to(tl.float32)
    b = tl.load(B + batch * bb + group * bg + n, mask=real_n, other=0.0).to(tl.float32)
    c = tl.load(C + batch * cb + group * cg + n, mask=real_n, other=0.0).to(tl.float32)
    # all is read before the state is written: loads do not overtake stores
    if HAS_D:
        skip = tl.load(D + head * Dh + p * Dp, mask=real_p, other=0.0).to(tl.float32)
    if HAS_GATE:
        gate = tl.load(z + batch * zb + head * zh + p, mask=real_p, other=0.0).to(tl.float32)
    channel = (batch * heads + head) * head_dim + p
    at, real = channel[:, None] * n_state + n[None, :], real_p[:, None] & real_n[None, :]
    h = tl.load(state + at, mask=real, other=0.0).to(tl.float32)
    h = h * decay + (dt * value)[:, None] * b[None, :]
    tl.debug_barrier()  # several threads may hold one element: in place, all must read before one writes
    tl.store(new_state + at, h, mask=real)
    out = tl.sum(h * c[None, :], axis=1)
    if HAS_D:
        out += value * skip
    if HAS_GATE:
        out *= gate * sigmoid(gate)
    tl.store(y + channel, out.to(y.dtype.element_ty), mask=real_p)


def step(state: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """Compute `ssd_state_step` in float32: y in x's dtype and the state after the step."""
    state = state.contiguous()
    new_state = torch.empty_like(state, dtype=torch.float32)
    return _launch(state, new_state, *operands), new_state


def step_in_place(state: Tensor, *operands: Any) -> Tensor:
    """Compute the same y, and write the new state over a contiguous float32 one."""
    return _launch(state, state, *operands)


def _launch(
    state: Tensor,
    new_state: Tensor,
    x: Tensor,
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
    (batch, heads, head_dim), n_state = x.shape, B.shape[2]
    x, B, C, D = rows(x), rows(B), rows(C), per_channel(D)
    z, D = None if z is None else rows(z), None if D is None else D.expand(heads, head_dim)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    wide = power_of_two(n_state)
    channels = min(power_of_two(head_dim), max(_ELEMENTS // wide, 1))
    with torch.cuda.device_of(x):
        step_kernel[(-(-head_dim // channels), heads, batch)](
            state, x, delta, A.contiguous(), B, C, D, z,
            None if delta_bias is None else delta_bias.contiguous(), y, new_state,
            heads, heads // B.shape[1], head_dim, n_state, *x.stride()[:2], *delta.stride(),
            *((0, 0) if z is None else z.stride()[:2]), *B.stride()[:2], *C.stride()[:2],
            *((0, 0) if D is None else D.stride()),
            SOFTPLUS=delta_softplus, HAS_BIAS=delta_bias is not None, HAS_D=D is not None,
            HAS_GATE=z is not None, LOG=A_is_log, CHANNELS=channels, STATE=wide, num_warps=4,
        )  # fmt: skip
    return y
