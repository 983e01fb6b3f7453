"""The operators inside torch.library, torch.compile and autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from operator_cases import conv_arguments, scan_arguments, some_resets
from torch import Tensor

from seqmamba.ops import causal_conv1d, selective_scan, selective_state_step


def _scan_operands(every: bool) -> tuple[Any, ...]:
    a: dict[str, Any] = {name: x.float() for name, x in scan_arguments(every=every).items()}
    a["B"], a["C"] = a["B"][:, :, None], a["C"][:, :, None]
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
    return tuple(a.get(name) for name in names)


@pytest.mark.parametrize("every", [False, True])
def test_the_registered_scan_passes_opcheck(every: bool) -> None:
    operands, reset = _scan_operands(every), some_resets(2, 37) if every else None
    forward = torch.ops.seqmamba.selective_scan_forward
    torch.library.opcheck(forward, (*operands, reset, True, False, True))
    torch.library.opcheck(forward, (*operands, reset, True, True, False))
    y, final, saved = forward(*operands, reset, True, False, True)
    backward = torch.ops.seqmamba.selective_scan_backward
    torch.library.opcheck(backward, (y, final, y, saved, *operands[:8], reset, True, False))


@pytest.mark.parametrize("every", [False, True])
def test_the_registered_convolution_passes_opcheck(every: bool) -> None:
    a = {name: x.float() for name, x in conv_arguments().items()}
    optional = (a["bias"], a["initial_state"], some_resets(2, 37)) if every else (None, None, None)
    operands = (a["x"], a["weight"], *optional, True, False)
    forward, backward = (
        torch.ops.seqmamba.causal_conv1d_forward,
        torch.ops.seqmamba.causal_conv1d_backward,
    )
    torch.library.opcheck(forward, operands)
    torch.library.opcheck(backward, (*forward(*operands), *operands))


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # aot_eager traces forward and backward as every backend does, and needs no C++ compiler
    return torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")


@pytest.mark.parametrize("reverse", [False, True])
def test_one_graph_serves_every_length(reverse: bool) -> None:
    def model(x: Tensor, weight: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        u = causal_conv1d(x, weight, activation="silu", reverse=reverse)
        y, final = selective_scan(
            u, delta, A, B, C, z=x, delta_softplus=True, return_final_state=True, reverse=reverse
        )
        return y.sum() + final.sum()

    torch.compiler.reset()
    compiled = _compiled(model)
    for length in (37, 50, 64):
        a = {name: x.float() for name, x in scan_arguments(length=length).items()}
        given = [a["u"], conv_arguments()["weight"].float(), a["delta"], a["A"], a["B"], a["C"]]
        leaves = [x.clone().requires_grad_() for x in given]
        wanted = [x.clone().requires_grad_() for x in given]
        value, expected = compiled(*leaves), model(*wanted)
        value.backward()
        expected.backward()
        torch.testing.assert_close(value, expected)
        for leaf, other in zip(leaves, wanted, strict=True):
            torch.testing.assert_close(leaf.grad, other.grad)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*given), model(*given))


def test_the_step_compiles() -> None:
    a = {name: x.float() for name, x in scan_arguments(length=1).items()}
    state = a.pop("initial_state")
    step = {name: x[:, 0] if x.ndim == 3 else x for name, x in a.items()}
    compiled = torch.compile(selective_state_step, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(compiled(state, **step), selective_state_step(state, **step), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("impl", ["numba", "chunked"])
def test_autocast_keeps_states_float32(impl: str) -> None:
    a = {name: x.float() for name, x in scan_arguments(dim=6).items()}
    projection = torch.nn.Linear(6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        u = causal_conv1d(
            projection(a["u"]), conv_arguments()["weight"].float(), activation="silu", impl=impl
        )
        y, final = selective_scan(**(a | {"u": u}), delta_softplus=True, return_final_state=True, impl=impl)
    assert (u.dtype, y.dtype, final.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    wanted = selective_scan(
        **{name: x.double() for name, x in (a | {"u": u}).items()}, delta_softplus=True, impl="reference"
    )
    assert (y.double() - wanted).abs().max() <= 8e-3 * wanted.abs().max()
    y.float().sum().backward()
    assert projection.weight.grad is not None
    assert projection.weight.grad.dtype == torch.float32
    assert projection.weight.grad.abs().sum() > 0
