"""mamba-ssm's Mamba-2 functions against the recurrence written out here in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.compat import mamba_chunk_scan_combined, mamba_split_conv1d_scan_combined
from seqmamba.errors import UserError

LENGTH, HEADS, HEAD_DIM, GROUPS, STATE = 21, 4, 3, 2, 5


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def _arguments(batch: int = 2) -> dict[str, Tensor]:
    return {
        "x": _normal(batch, LENGTH, HEADS, HEAD_DIM),
        "dt": _normal(batch, LENGTH, HEADS, seed=1) - 1,
        "A": -_normal(HEADS, seed=2).abs() - 0.1,
        "B": _normal(batch, LENGTH, GROUPS, STATE, seed=3),
        "C": _normal(batch, LENGTH, GROUPS, STATE, seed=4),
        "D": _normal(HEADS, seed=5),
        "z": _normal(batch, LENGTH, HEADS, HEAD_DIM, seed=6),
        "dt_bias": _normal(HEADS, seed=7) * 0.1,
        "initial_states": _normal(batch, HEADS, HEAD_DIM, STATE, seed=8),
    }


def _recurrence(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    initial_states: Tensor | None = None,
    z: Tensor | None = None,
    seq_idx: Tensor | None = None,
    limit: tuple[float, float] = (0.0, float("inf")),
    softplus: bool = True,
) -> tuple[Tensor, Tensor]:
    step = F.softplus(dt + dt_bias) if softplus else dt + dt_bias
    step = step.clamp(*limit)
    B, C = (p.repeat_interleave(HEADS // GROUPS, dim=2) for p in (B, C))
    state = x.new_zeros(x.shape[0], HEADS, HEAD_DIM, STATE)
    state = state if initial_states is None else initial_states
    number, outputs = torch.zeros(x.shape[0]), []  # the initial states belong to sequence 0
    for t in range(x.shape[1]):
        if seq_idx is not None:
            state = torch.where((seq_idx[:, t] == number)[:, None, None, None], state, 0)
            number = seq_idx[:, t]
        decay = torch.exp(step[:, t] * A)[..., None, None]
        state = decay * state + (step[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None]
        outputs.append((state * C[:, t, :, None]).sum(-1))
    y = torch.stack(outputs, dim=1) + (D[:, None] if D.ndim == 1 else D) * x
    return y if z is None else y * F.silu(z), state


def _gradients(function: Any, arguments: dict[str, Tensor]) -> list[Tensor]:
    leaves = {name: x.clone().requires_grad_() for name, x in arguments.items()}
    y, state = function(**leaves)
    total = (y * _normal(*y.shape, seed=20)).sum() + (state**2).sum()
    return [y.detach(), state.detach(), *torch.autograd.grad(total, list(leaves.values()))]


@pytest.mark.parametrize("skip_each_channel", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("softplus", "limit"), [(True, (0.0, float("inf"))), (True, (0.2, 0.6)), (False, (0.0, float("inf")))]
)
def test_outputs_states_and_gradients(
    softplus: bool, limit: tuple[float, float], packed: bool, skip_each_channel: bool
) -> None:
    arguments = _arguments()
    if skip_each_channel:
        arguments["D"] = _normal(HEADS, HEAD_DIM, seed=9)
    number = torch.tensor([[0] * 9 + [1] * 12, [3] * 16 + [0] * 5], dtype=torch.int32) if packed else None

    def ours(**leaves: Tensor) -> Any:
        return mamba_chunk_scan_combined(
            **leaves,
            chunk_size=8,
            seq_idx=number,
            dt_softplus=softplus,
            dt_limit=limit,
            return_final_states=True,
        )

    def written_out(**leaves: Tensor) -> Any:
        return _recurrence(**leaves, seq_idx=number, limit=limit, softplus=softplus)

    for actual, expected in zip(_gradients(ours, arguments), _gradients(written_out, arguments), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("numbered", [False, True])
def test_the_states_of_packed_sequences(numbered: bool) -> None:
    arguments = _arguments(1)
    del arguments["initial_states"]
    bounds = [0, 6, 6, 20, 21]
    number = torch.tensor([[0] * 6 + [2] * 14 + [3]], dtype=torch.int32) if numbered else None
    y, final, states = mamba_chunk_scan_combined(
        **arguments,
        chunk_size=8,
        seq_idx=number,
        cu_seqlens=torch.tensor(bounds),
        dt_softplus=True,
        return_final_states=True,
        return_varlen_states=True,
    )
    assert states.shape == (4, HEADS, HEAD_DIM, STATE)
    assert (states[1] == 0).all()
    for i in (0, 2, 3):
        own = {name: p[:, bounds[i] : bounds[i + 1]] if p.ndim > 2 else p for name, p in arguments.items()}
        wanted, last = _recurrence(**own)
        torch.testing.assert_close(y[:, bounds[i] : bounds[i + 1]], wanted)
        torch.testing.assert_close(states[i : i + 1], last)
    torch.testing.assert_close(final, states[3:])
    with pytest.raises(
        UserError, match="takes cu_seqlens, a batch of 1 and no initial_states, got cu_seqlens=None"
    ):
        mamba_chunk_scan_combined(**arguments, chunk_size=8, return_varlen_states=True)


def test_only_what_is_asked_for_comes_back() -> None:
    a = {name: p.bfloat16() for name, p in _arguments().items() if name in ("x", "dt", "A", "B", "C")}
    y = mamba_chunk_scan_combined(**a, chunk_size=8, dt_softplus=True)
    assert isinstance(y, Tensor)
    assert y.dtype == torch.bfloat16


def _block_arguments(extra: int) -> dict[str, Tensor]:
    dim, convolved = HEADS * HEAD_DIM, HEADS * HEAD_DIM + 2 * GROUPS * STATE
    return {
        "zxbcdt": _normal(2, LENGTH, 2 * extra + dim + convolved + HEADS),
        "conv1d_weight": _normal(convolved, 4, seed=1),
        "conv1d_bias": _normal(convolved, seed=2),
        "dt_bias": _normal(HEADS, seed=3),
        "A": -_normal(HEADS, seed=4).abs(),
        "D": _normal(HEADS, seed=5),
        "rmsnorm_weight": _normal(dim, seed=6),
        "outproj_weight": _normal(7, dim + extra, seed=7),
        "outproj_bias": _normal(7, seed=8),
        "initial_states": _normal(2, HEADS, HEAD_DIM, STATE, seed=9),
    }


def _block(
    zxbcdt: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    initial_states: Tensor,
    extra: int,
    before: bool,
    rmsnorm_weight: Tensor | None = None,
    outproj_weight: Tensor | None = None,
    outproj_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    dim, projected = HEADS * HEAD_DIM, GROUPS * STATE
    beside, z, xBC, dt = zxbcdt.split([2 * extra, dim, dim + 2 * projected, HEADS], dim=-1)
    xBC = F.conv1d(xBC.mT, conv1d_weight[:, None], conv1d_bias, padding=3, groups=dim + 2 * projected)
    x, B, C = F.silu(xBC[..., :LENGTH].mT).split([dim, projected, projected], dim=-1)
    x, B, C = x.unflatten(-1, (HEADS, -1)), B.unflatten(-1, (GROUPS, -1)), C.unflatten(-1, (GROUPS, -1))
    y, state = _recurrence(x, dt, A, B, C, D, dt_bias, initial_states, limit=(0.1, 0.9))
    y = y.flatten(-2)
    if rmsnorm_weight is None:
        y = y * F.silu(z)
    else:
        y = y if before else y * F.silu(z)
        y = y.unflatten(-1, (GROUPS, -1))
        y = (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-3)).flatten(-2) * rmsnorm_weight
        y = y * F.silu(z) if before else y
    if extra:
        y = torch.cat([F.silu(beside[..., :extra]) * beside[..., extra:], y], dim=-1)
    return y if outproj_weight is None else F.linear(y, outproj_weight, outproj_bias), state


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize(("norm", "before"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("projected", [False, True])
def test_the_split_block(extra: int, norm: bool, before: bool, projected: bool) -> None:
    arguments = _block_arguments(extra)
    dropped = (() if norm else ("rmsnorm_weight",)) + (
        () if projected else ("outproj_weight", "outproj_bias")
    )
    arguments = {name: x for name, x in arguments.items() if name not in dropped}
    options = {"chunk_size": 8, "headdim": HEAD_DIM, "ngroups": GROUPS, "norm_before_gate": before}

    def ours(**leaves: Tensor) -> Any:
        return mamba_split_conv1d_scan_combined(
            **leaves, **options, rmsnorm_eps=1e-3, dt_limit=(0.1, 0.9), return_final_states=True
        )

    def written_out(**leaves: Tensor) -> Any:
        return _block(**leaves, extra=extra, before=before)

    for actual, expected in zip(_gradients(ours, arguments), _gradients(written_out, arguments), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


def test_mistakes_are_named() -> None:
    a = _block_arguments(0)
    with pytest.raises(UserError, match=r"headdim must be given where D is \(heads,\)"):
        mamba_split_conv1d_scan_combined(**a, chunk_size=8)
    with pytest.raises(UserError, match=r"conv1d_weight must have dim .* with dim=12 and groups=3, got 32"):
        mamba_split_conv1d_scan_combined(**a, chunk_size=8, headdim=HEAD_DIM, ngroups=3)
    short = a | {"zxbcdt": a["zxbcdt"][..., 1:]}
    with pytest.raises(UserError, match="zxbcdt must have 2 extra \\+ 48 channels, got 47"):
        mamba_split_conv1d_scan_combined(**short, chunk_size=8, headdim=HEAD_DIM, ngroups=GROUPS)
    with pytest.raises(UserError, match=r"dt must have shape \(batch=2, length=21, heads=4\)"):
        mamba_chunk_scan_combined(**(_arguments() | {"dt": torch.zeros(2, 21, 5)}), chunk_size=8)
