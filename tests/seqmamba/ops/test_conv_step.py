"""One step of the causal convolution against the convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import causal_conv1d, causal_conv1d_step

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def arguments(device: str, dtype: torch.dtype, width: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = ((3, width - 1, 5), (3, 5), (5, width), (5,))
    state, x, weight, bias = (torch.randn(shape).to(device) for shape in shapes)
    return state, x.to(dtype), weight.to(dtype), bias.to(dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_step_is_the_convolution_of_one_input(
    device: str, dtype: torch.dtype, width: int, activation: str | None, with_bias: bool
) -> None:
    state, x, weight, bias = arguments(device, dtype, width)
    given = bias if with_bias else None
    before = state.clone()
    y, after = causal_conv1d_step(state, x, weight, given, activation=activation)
    options = {"activation": activation, "initial_state": state, "return_final_state": True}
    expected, wanted = causal_conv1d(x[:, None], weight, given, impl="reference", **options)
    assert torch.equal(state, before)
    assert (y.dtype, after.dtype) == (dtype, torch.promote_types(dtype, torch.float32))
    torch.testing.assert_close(y, expected[:, 0])
    assert torch.equal(after, wanted)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_those_of_the_convolution(device: str) -> None:
    operands = [tensor.requires_grad_() for tensor in arguments(device, torch.float32)]
    state, x, weight, bias = operands
    weights = torch.randn(3, 5, device=device), torch.randn(3, 3, 5, device=device)
    gradients = []
    for y, after in (
        causal_conv1d_step(*operands, activation="silu"),
        causal_conv1d(
            x[:, None],
            weight,
            bias,
            activation="silu",
            initial_state=state,
            return_final_state=True,
            impl="reference",
        ),
    ):
        loss = (y.reshape(3, 5) * weights[0]).sum() + (after * weights[1]).sum()
        gradients.append(torch.autograd.grad(loss, operands))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 1, 5)}, r"x must be \(batch, dim\), got shape \(3, 1, 5\)"),
        ({"weight": torch.zeros(6, 4)}, r"weight must have shape \(dim=5, width=4\), got \(6, 4\)"),
        ({"state": torch.zeros(3, 4, 5)}, r"state must have shape \(batch=3, width-1=3, dim=5\)"),
        ({"bias": torch.zeros(4)}, r"bias must have shape \(dim=5\), got \(4,\)"),
        ({"x": torch.zeros(3, 5).long()}, "x must be floating point, got dtype torch.int64"),
        ({"activation": "gelu"}, "activation must be None or \"silu\", got 'gelu'"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str) -> None:
    named = dict(zip(("state", "x", "weight", "bias"), arguments("cpu", torch.float32), strict=True))
    with pytest.raises(UserError, match=f"causal_conv1d_step: {message}"):
        causal_conv1d_step(**named | change)
