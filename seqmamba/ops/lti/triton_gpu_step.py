# mypy: allow-untyped-defs
"""One step of a diagonal time-invariant system as one Triton kernel.

Complex tensors are read as real ones whose last axis holds real and imaginary part.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 512  # complex ones of the state, a program: small, since a step has little work to spread
_INVERSE_ROOT_2 = tl.constexpr(0.7071067811865476)


@triton.jit
def load_complex(pointer, at, real):
    """Real and imaginary parts of the complex numbers `at`, in float32."""
    both = at[:, :, None] * 2 + tl.arange(0, 2)[None, None, :]
    return tl.split(tl.load(pointer + both, mask=real[:, :, None], other=0.0).to(tl.float32))


@triton.jit
def step_kernel(
    state,
    u,
    transition,
    drive,
    C,
    D,
    y,
    new_state,
    dim,
    n_state,
    u_stride,
    GELU: tl.constexpr,
    CHANNELS: tl.constexpr,
    STATES: tl.constexpr,
):
    """Compute x' = transition x + drive u and y = 2 Re(C . x') + D u, a tile of channels."""
    tiles = tl.cdiv(dim, CHANNELS)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    channel = (tl.program_id(0) % tiles) * CHANNELS + tl.arange(0, CHANNELS)
    inside, n = channel < dim, tl.arange(0, STATES)[None, :]
    real = inside[:, None] & (n < n_state)

    value = tl.load(u + batch * u_stride + channel, mask=inside, other=0.0).to(tl.float32)
    if D is not None:  # read before the state is written: loads do not overtake stores
        skip = tl.load(D + channel, mask=inside, other=0.0).to(tl.float32)
    system = channel[:, None] * n_state + n
    a_re, a_im = load_complex(transition, system, real)
    b_re, b_im = load_complex(drive, system, real)
    c_re, c_im = load_complex(C, system, real)
    at = (batch * dim + channel[:, None]) * n_state + n
    x_re, x_im = load_complex(state, at, real)
    re = a_re * x_re - a_im * x_im + b_re * value[:, None]
    im = a_re * x_im + a_im * x_re + b_im * value[:, None]
    tl.debug_barrier()  # several threads may hold one element: in place, all must read before one writes
    both = at[:, :, None] * 2 + tl.arange(0, 2)[None, None, :]
    tl.store(new_state + both, tl.join(re, im), mask=real[:, :, None])

    out = 2.0 * tl.sum(c_re * re - c_im * im, axis=1)
    if D is not None:
        out += skip * value
    if GELU:
        out = 0.5 * out * (1.0 + tl.erf(out * _INVERSE_ROOT_2))
    tl.store(y + batch * dim + channel, out, mask=inside)


def step(state: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """Advance the state by one step, in float32; the operands are those of `_launch`."""
    state = state.contiguous()
    new_state = state.new_empty(state.shape, dtype=torch.complex64)
    return _launch(state, new_state, *operands), new_state


def step_in_place(state: Tensor, *operands: Any) -> Tensor:
    """Advance a contiguous complex64 state where it is; the operands are those of `_launch`."""
    return _launch(state, state, *operands)


def _launch(
    state: Tensor,
    new_state: Tensor,
    u: Tensor,
    transition: Tensor,
    drive: Tensor,
    C: Tensor,
    D: Tensor | None,
    gelu: bool,
) -> Tensor:
    """Write the new state and return y."""
    (batch, dim), n_state = u.shape, C.shape[1]
    u = u if u.stride(1) == 1 else u.contiguous()
    y = u.new_empty(batch, dim)
    states = triton.next_power_of_2(n_state)
    channels = max(1, min(_ELEMENTS // states, triton.next_power_of_2(dim)))
    with torch.cuda.device_of(u):
        step_kernel[(batch * triton.cdiv(dim, channels),)](
            _parts(state),
            u,
            _parts(transition),
            _parts(drive),
            _parts(C),
            None if D is None else D.contiguous(),
            y,
            _parts(new_state),
            dim,
            n_state,
            u.stride(0),
            GELU=gelu,
            CHANNELS=channels,
            STATES=states,
            num_warps=max(1, min(4, channels * states // 128)),
        )
    return y


def _parts(x: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones, in the same memory if they lie side by side."""
    return torch.view_as_real(x.resolve_conj().contiguous())
