"""What mamba-ssm and causal-conv1d offer, in PyTorch: their signatures, layouts, checks and final states.

Where they refuse a call the stand-ins assert, so that a wrong call fails here as it would on a GPU.
"""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.ops.causal_conv1d import upstream as conv_upstream
from seqmamba.ops.selective_scan import upstream as scan_upstream

_CHUNK = 2048


def install_scan(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a `selective_scan_cuda` in place that computes on the CPU."""
    module = ModuleType("selective_scan_cuda")
    module.__dict__.update(fwd=scan_forward, bwd=scan_backward)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(scan_upstream, "_DEVICE", "cpu")
    return module


def install_convolution(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Put a `causal_conv1d` in place that computes on the CPU."""
    module = ModuleType("causal_conv1d")
    module.__dict__.update(causal_conv1d_fn=causal_conv1d_fn)
    for name in ("causal_conv1d", "causal_conv1d_cuda"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(conv_upstream, "_DEVICE", "cpu")
    return module


def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    batch, dim, length = u.shape
    assert A.dtype in (torch.float32, torch.complex64)
    assert A.shape[1] <= 256
    for x in (delta, B, C, z):
        assert x is None or (x.dtype == u.dtype and (x.stride(-1) == 1 or x.shape[-1] == 1))
    for x in (D, delta_bias):
        assert x is None or (x.dtype == torch.float32 and x.shape == (dim,))
    assert delta.shape == u.shape
    assert z is None or z.shape == u.shape
    steps = length * (2 if A.is_complex() else 1)
    assert B.shape == C.shape == (batch, B.shape[1], A.shape[1], steps)
    y, gated, states = _scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    last = [min((i + 1) * _CHUNK, length) - 1 for i in range(-(-length // _CHUNK))]
    saved = torch.full((batch, dim, len(last), 2 * A.shape[1]), torch.nan, dtype=A.dtype)
    saved[..., 1::2] = states[:, :, last]
    return [y.to(u.dtype), saved] if gated is None else [y.to(u.dtype), saved, gated.to(u.dtype)]


def scan_backward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    dout: Tensor,
    saved: Tensor | None,
    out: Tensor | None,
    dz: Tensor | None,
    delta_softplus: bool,
    recompute_out_z: bool,
) -> list[Tensor | None]:
    assert dout.dtype == u.dtype
    assert dout.shape == u.shape
    assert dout.stride(-1) == 1 or dout.shape[-1] == 1
    assert saved is not None
    assert saved.is_contiguous()
    assert dz is None
    assert not recompute_out_z
    assert (z is None) == (out is None)
    operands = [
        None if x is None else x.detach().requires_grad_() for x in (u, delta, A, B, C, D, z, delta_bias)
    ]
    with torch.enable_grad():
        y, gated, _ = _scan(*operands, delta_softplus)
    given = [x for x in operands if x is not None]
    result = y if gated is None else gated
    found = iter(torch.autograd.grad(result, given, dout.to(result.dtype)))
    du, ddelta, dA, dB, dC, dD, d_gate, dbias = (None if x is None else next(found) for x in operands)
    grads = [du, ddelta, dA, dB, dC, dD, dbias]
    return grads if z is None else [*grads, d_gate]


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The recurrence on (batch, dim, length): output, gated output, all states."""
    x, step = u.float(), delta.float() + (0 if delta_bias is None else delta_bias[:, None])
    step = F.softplus(step) if delta_softplus else step
    B, C = (_per_channel(p.float(), A.is_complex(), u.shape[1]) for p in (B, C))
    state, states = A.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[2]):
        dt = step[:, :, t, None]
        state = torch.exp(dt * A) * state + dt * B[..., t] * x[:, :, t, None]
        states.append(state)
    every = torch.stack(states, dim=2)
    y = torch.einsum("bdtn,bdnt->bdt", every, C)
    y = 2 * y.real if y.is_complex() else y
    y = y if D is None else y + D[:, None] * x
    return y, None if z is None else y * F.silu(z.float()), every


def _per_channel(p: Tensor, is_complex: bool, dim: int) -> Tensor:
    p = torch.view_as_complex(p.unflatten(-1, (-1, 2)).contiguous()) if is_complex else p
    return p.repeat_interleave(dim // p.shape[1], dim=1)


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    (batch, dim, length), width = x.shape, weight.shape[1]
    assert activation in (None, "silu", "swish")
    assert 2 <= width <= 4
    assert bias is None or bias.dtype == weight.dtype
    assert x.stride(1) == 1
    assert x.stride(2) > 1
    assert dim % 8 == x.stride(2) % 8 == x.stride(0) % 8 == 0
    if seq_idx is None:
        seq_idx = torch.zeros(batch, length, dtype=torch.int32)
    else:
        assert seq_idx.dtype == torch.int32
        assert seq_idx.is_contiguous()
        assert seq_idx.shape == (batch, length)
        assert initial_states is None  # what came of the two together depends on the release
    before = x.new_zeros(batch, dim, width - 1)
    if initial_states is not None:
        assert initial_states.dtype == x.dtype
        assert initial_states.stride(1) == 1
        before = initial_states
    padded, number = torch.cat([before, x], dim=2).float(), F.pad(seq_idx, (width - 1, 0), value=-1)
    if initial_states is not None:
        number[:, : width - 1] = seq_idx[:, :1]
    y = torch.zeros(batch, dim, length)
    for k in range(width):
        same = number[:, k : k + length] == seq_idx
        y = y + weight[:, k, None].float() * padded[..., k : k + length] * same[:, None]
    y = y if bias is None else y + bias[:, None].float()
    y = F.silu(y) if activation else y
    return torch.empty_like(x).copy_(y.to(x.dtype)) if not y.requires_grad else y.to(x.dtype)
