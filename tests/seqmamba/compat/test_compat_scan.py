"""mamba-ssm's functions in its layout, against the recurrences written out here in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmamba.compat import (
    causal_conv1d_fn,
    mamba_inner_fn,
    selective_scan_fn,
    selective_scan_ref,
    selective_state_update,
)
from seqmamba.errors import UserError

BATCH, DIM, STATE, LENGTH = 2, 6, 3, 19


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape))
    )


def _arguments(form_B: str = "bnl", form_C: str = "bnl", complex_state: bool = False) -> dict[str, Tensor]:
    A = -_normal(DIM, STATE).abs() - 0.1
    steps = 2 * LENGTH if complex_state else LENGTH
    shapes = {"dn": (DIM, STATE), "bnl": (BATCH, STATE, steps), "bgnl": (BATCH, 2, STATE, steps)}
    B, C = _normal(*shapes[form_B], seed=1), _normal(*shapes[form_C], seed=2)
    if complex_state:
        A = torch.complex(A, _normal(DIM, STATE, seed=3))
        B = torch.complex(B, _normal(DIM, STATE, seed=4)) if form_B == "dn" else B
        C = torch.complex(C, _normal(DIM, STATE, seed=5)) if form_C == "dn" else C
    return {
        "u": _normal(BATCH, DIM, LENGTH, seed=6),
        "delta": _normal(BATCH, DIM, LENGTH, seed=7) - 2,
        "A": A,
        "B": B,
        "C": C,
        "D": _normal(DIM, seed=8),
        "z": _normal(BATCH, DIM, LENGTH, seed=9),
        "delta_bias": _normal(DIM, seed=10) * 0.1,
    }


def _recurrence(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """What mamba-ssm documents, one step at a time, for every form of B and C."""

    def at(p: Tensor, t: int) -> Tensor:
        if p.ndim == 2:
            return p
        pair = (p[..., 2 * t] + 1j * p[..., 2 * t + 1]) if A.is_complex() else p[..., t]
        pair = pair[:, None] if pair.ndim == 2 else pair
        return pair.repeat_interleave(DIM // pair.shape[1], dim=1)

    step, state, outputs = F.softplus(delta + delta_bias[:, None]), A.new_zeros(BATCH, DIM, STATE), []
    for t in range(LENGTH):
        dt = step[:, :, t, None]
        state = torch.exp(dt * A) * state + dt * at(B, t) * u[:, :, t, None]
        y = (at(C, t) * state).sum(-1)
        outputs.append(2 * y.real if y.is_complex() else y)
    return (torch.stack(outputs, dim=-1) + D[:, None] * u) * F.silu(z), state


def _both(function: Any, arguments: dict[str, Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    leaves = {name: x.detach().clone() for name, x in arguments.items()}
    if dtype is not None:
        leaves = {name: x.to(dtype.to_complex() if x.is_complex() else dtype) for name, x in leaves.items()}
    leaves = {name: x.requires_grad_() for name, x in leaves.items()}
    y, state = function(**leaves)
    seed = _normal(*y.shape, seed=20).to(y.dtype)
    total = (y * seed).sum() + (state * state.detach().conj()).real.sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    return [y.detach(), state.detach(), *gradients]


def _assert_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for i, (got, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert got.shape == wanted.shape, i
        error = (got.to(wanted.dtype) - wanted).abs().max() / wanted.abs().max()
        assert error <= tolerance, f"{i}: {error.item():.2e}"


@pytest.mark.parametrize("complex_state", [False, True])
@pytest.mark.parametrize(
    ("form_B", "form_C"), [("bnl", "bnl"), ("bgnl", "bgnl"), ("dn", "bnl"), ("bgnl", "dn"), ("dn", "dn")]
)
def test_every_form_of_the_projections(form_B: str, form_C: str, complex_state: bool) -> None:
    arguments = _arguments(form_B, form_C, complex_state)

    def ours(**leaves: Tensor) -> Any:
        return selective_scan_fn(**leaves, delta_softplus=True, return_last_state=True)

    _assert_close(_both(ours, arguments), _both(_recurrence, arguments), 1e-10)


def test_the_fast_operator_and_the_reference_agree() -> None:
    arguments = _arguments("bgnl", "bgnl")
    wanted = _both(_recurrence, arguments)
    for function in (selective_scan_fn, selective_scan_ref):
        actual = _both(
            lambda f=function, **leaves: f(**leaves, delta_softplus=True, return_last_state=True),
            arguments,
            torch.float32,
        )
        _assert_close(actual, wanted, 4e-6)


def test_only_what_is_needed() -> None:
    a = {name: x.bfloat16() for name, x in _arguments().items() if name in ("u", "delta", "B", "C")}
    a["delta"] = a["delta"].abs()
    y = selective_scan_fn(**a, A=_arguments()["A"].float())
    assert isinstance(y, Tensor)
    assert (y.shape, y.dtype) == ((BATCH, DIM, LENGTH), torch.bfloat16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"delta": torch.zeros(2, 19, 6)},
            r"delta must have shape \(batch=2, dim=6, length=19\), got",
        ),
        ({"B": torch.zeros(2, 19, 3)}, r"B must have shape \(batch=2, groups=1, state=3, length=19\)"),
        ({"C": torch.zeros(5, 3)}, r"C must have shape \(dim=6, state=3\), got \(5, 3\)"),
        ({"z": torch.zeros(2, 6)}, r"z must have shape"),
        ({"u": torch.zeros(2, 6)}, r"u must be \(batch, dim, length\), got shape \(2, 6\)"),
    ],
)
def test_mistakes_of_the_scan_are_named(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=f"selective_scan_fn: {message}"):
        selective_scan_fn(**(_arguments() | change))


def _inner_arguments(complex_state: bool, norms: bool) -> dict[str, Any]:
    rank, size = 2, STATE * (2 if complex_state else 1)
    a = _arguments(complex_state=complex_state)
    arguments = {
        "xz": _normal(BATCH, 2 * DIM, LENGTH, seed=30),
        "conv1d_weight": _normal(DIM, 1, 4, seed=31),
        "conv1d_bias": _normal(DIM, seed=32),
        "x_proj_weight": _normal(rank + 2 * size, DIM, seed=33),
        "delta_proj_weight": _normal(DIM, rank, seed=34),
        "out_proj_weight": _normal(5, DIM, seed=35),
        "out_proj_bias": _normal(5, seed=36),
        "A": a["A"],
        "D": a["D"],
        "delta_bias": a["delta_bias"],
        "B_proj_bias": _normal(size, seed=37),
        "C_proj_bias": _normal(size, seed=38),
    }
    if norms:
        arguments |= {"b_rms_weight": _normal(STATE, seed=39), "c_rms_weight": _normal(STATE, seed=40)}
        arguments["dt_rms_weight"] = _normal(DIM, seed=41)
    return arguments


def _block(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor,
    A: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    B_proj_bias: Tensor,
    C_proj_bias: Tensor,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    x, z = xz.chunk(2, dim=1)
    u = F.silu(F.conv1d(x, conv1d_weight, conv1d_bias, padding=3, groups=DIM)[..., :LENGTH])
    selected = u.mT @ x_proj_weight.mT
    rank, size = delta_proj_weight.shape[1], B_proj_bias.shape[0]

    def norm(p: Tensor, weight: Tensor | None) -> Tensor:
        return p if weight is None else p * torch.rsqrt(p.square().mean(-1, keepdim=True) + 1e-6) * weight

    def layout(p: Tensor) -> Tensor:  # complex values as pairs of steps
        return p.unflatten(-1, (STATE, 2)).transpose(1, 2).flatten(2) if A.is_complex() else p.mT

    delta = norm(selected[..., :rank] @ delta_proj_weight.mT, dt_rms_weight).mT
    from_input = layout(norm(selected[..., rank : rank + size] + B_proj_bias, b_rms_weight))
    C = layout(norm(selected[..., -size:] + C_proj_bias, c_rms_weight))
    y, _ = _recurrence(u, delta, A, from_input if B is None else B, C, D, z, delta_bias)
    return y.mT @ out_proj_weight.mT + out_proj_bias, torch.zeros(1)


@pytest.mark.parametrize(("complex_state", "norms"), [(False, False), (False, True), (True, False)])
def test_the_inner_block(complex_state: bool, norms: bool) -> None:
    arguments = _inner_arguments(complex_state, norms)
    actual = _both(lambda **leaves: (mamba_inner_fn(**leaves), torch.zeros(1)), arguments)
    _assert_close(actual[:1] + actual[2:], _without_state(_both(_block, arguments)), 1e-10)


def test_the_inner_block_with_a_constant_projection() -> None:
    arguments = _inner_arguments(False, False)
    B = _normal(DIM, STATE, seed=50)
    actual = mamba_inner_fn(**arguments, B=B, checkpoint_lvl=0)
    torch.testing.assert_close(actual, _block(**arguments, B=B)[0])
    with pytest.raises(UserError, match="checkpoint_lvl must be 0 or 1, got 2"):
        mamba_inner_fn(**arguments, checkpoint_lvl=2)
    with pytest.raises(UserError, match=r"xz must have shape \(batch=2, 2 dim=12, length=19\), got"):
        mamba_inner_fn(**(arguments | {"xz": arguments["xz"][:, :6]}))


def _without_state(results: list[Tensor]) -> list[Tensor]:
    return results[:1] + results[2:]


@pytest.mark.parametrize("heads", [None, 3])
@pytest.mark.parametrize("groups", [None, 1, 3])
def test_steps_equal_the_scan(heads: int | None, groups: int | None) -> None:
    if groups == 3 and heads is None:
        heads = 6  # one channel a head: groups divide heads
    a = {name: x.float() for name, x in _arguments().items()}
    shape = (BATCH, groups or 1, STATE, LENGTH)
    a["B"], a["C"] = _normal(*shape, seed=11).float(), _normal(*shape, seed=12).float()
    wanted, last = selective_scan_fn(**a, delta_softplus=True, return_last_state=True)

    def split(x: Tensor, axis: int) -> Tensor:
        return x if heads is None else x.unflatten(axis, (heads, -1))

    state = split(torch.zeros(BATCH, DIM, STATE), 1)
    address = state.data_ptr()
    for t in range(LENGTH):
        B, C = (p[..., t] if groups else p[:, 0, :, t] for p in (a["B"], a["C"]))
        y = selective_state_update(
            state,
            split(a["u"][..., t], 1),
            split(a["delta"][..., t], 1),
            split(a["A"], 0),
            B,
            C,
            split(a["D"], 0),
            z=split(a["z"][..., t], 1),
            dt_bias=split(a["delta_bias"], 0),
            dt_softplus=True,
        )
        torch.testing.assert_close(y, split(wanted[..., t], 1))
    torch.testing.assert_close(state, split(last, 1))
    assert state.data_ptr() == address


def test_states_in_the_rows_of_a_larger_buffer() -> None:
    a = {name: x.float() for name, x in _arguments().items()}
    step = [a["u"][..., 0], a["delta"][..., 0], a["A"], a["B"][..., 0], a["C"][..., 0]]
    buffer = _normal(5, DIM, STATE, seed=60).float()
    for indices in ([3, 1], [-1, 4], [2, -1], [-1, -1]):
        held, before = buffer.clone(), buffer.clone()
        y = selective_state_update(held, *step, state_batch_indices=torch.tensor(indices, dtype=torch.int32))
        for row, index in enumerate(indices):
            if index < 0:
                assert (y[row] == 0).all()
                continue
            own = before[index : index + 1].clone()
            one = [p if p is a["A"] else p[row : row + 1] for p in step]
            torch.testing.assert_close(y[row : row + 1], selective_state_update(own, *one))
            torch.testing.assert_close(held[index : index + 1], own)
        others = [i for i in range(5) if i not in indices]
        assert torch.equal(held[others], before[others])


def test_gradients_flow_through_one_step() -> None:
    a = {name: x.float().requires_grad_() for name, x in _arguments().items()}
    state = torch.ones(BATCH, DIM, STATE, dtype=torch.bfloat16)
    y = selective_state_update(
        state, a["u"][..., 0], a["delta"][..., 0], a["A"], a["B"][..., 0], a["C"][..., 0]
    )
    y.sum().backward()
    assert a["A"].grad is not None
    assert a["A"].grad.abs().sum() > 0
    assert not state.requires_grad


def test_mistakes_of_the_step_are_named() -> None:
    state = torch.zeros(2, 4, 3, 5)
    x, A, B = torch.zeros(2, 4, 3), torch.zeros(4, 3, 5), torch.zeros(2, 3, 5)
    with pytest.raises(UserError, match="the groups of B must divide heads=4, got 3"):
        selective_state_update(state, x, x, A, B, B)
    with pytest.raises(UserError, match=r"dt must have shape \(batch=2, heads=4, dim=3\), got \(2, 4\)"):
        selective_state_update(state, x, x[..., 0], A, B[:, :2], B[:, :2])
    with pytest.raises(UserError, match=r"state must be \(batch, dim, state\) or"):
        selective_state_update(state[0, 0], x, x, A, B, B)


def test_the_convolution_and_the_scan_compile() -> None:
    def model(x: Tensor, weight: Tensor, delta: Tensor, A: Tensor, B: Tensor) -> Tensor:
        u = causal_conv1d_fn(x, weight, activation="silu")
        y = selective_scan_fn(u, delta, A, B, B, delta_softplus=True)
        assert isinstance(y, Tensor)
        return y

    a = {name: x.float() for name, x in _arguments().items()}
    given = (a["u"], _normal(DIM, 4).float(), a["delta"], a["A"], a["B"])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), model(*given))
