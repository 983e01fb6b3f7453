"""Under autocast: activations narrow, parameters, states and sums float32, gradients as their parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from composed import KINDS, assert_same, backbone_on, features, gradients, kind_name

from seqmamba.ops import causal_conv1d, selective_scan


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_a_backbone_under_autocast_is_close_to_float32(
    kind: dict[str, Any], checkpointed: bool, device: str
) -> None:
    backbone, x = backbone_on(device, checkpoint_activations=checkpointed, **kind), features(65, device)
    expected = gradients(backbone, backbone, x)
    with torch.autocast(device, dtype=torch.bfloat16):
        y = backbone(x)
    assert y.dtype == torch.float32

    def narrow(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return backbone(x)

    assert_same(gradients(backbone, narrow, x), expected, 3e-2)


def test_states_stay_float32(device: str) -> None:
    backbone = backbone_on(device)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        _, state = backbone(features(9, device), state=backbone.init_state(2), return_state=True)
        _, state = backbone(features(1, device), state=state, return_state=True)
    assert {x.dtype for layer in state.layers for x in layer} == {torch.float32}


@pytest.mark.parametrize("impl", ["auto", "chunked"])
def test_operators_take_mixed_dtypes_and_give_each_gradient_its_dtype(impl: str, device: str) -> None:
    def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, device=device).mul(0.3).to(dtype).requires_grad_()

    torch.manual_seed(0)
    narrow = torch.bfloat16
    x, weight, bias = leaf(2, 21, 6, dtype=narrow), leaf(6, 4), leaf(6)
    past = leaf(2, 3, 6)
    scan = {
        "delta": leaf(2, 21, 6, dtype=narrow),
        "A": leaf(6, 5),
        "B": leaf(2, 21, 5, dtype=narrow),
        "C": leaf(2, 21, 5),
        "D": leaf(6),
        "z": leaf(2, 21, 6, dtype=narrow),
        "delta_bias": leaf(6),
        "initial_state": leaf(2, 6, 5),
    }
    with torch.autocast(device, dtype=narrow):
        u, window = causal_conv1d(
            x, weight, bias, activation="silu", initial_state=past, return_final_state=True, impl=impl
        )
        options: dict[str, Any] = {"delta_softplus": True, "return_final_state": True, "impl": impl}
        y, state = selective_scan(u, **scan, **options)
    assert (u.dtype, y.dtype, window.dtype, state.dtype) == (narrow, narrow, torch.float32, torch.float32)
    wide = {name: tensor.detach().double() for name, tensor in scan.items()}
    expected = selective_scan(u.detach().double(), **wide, delta_softplus=True, impl="reference")
    torch.testing.assert_close(y.double(), expected, atol=8e-3 * expected.abs().max().item(), rtol=8e-3)
    (y.float().sum() + state.sum() + window.sum()).backward()
    for tensor in (x, weight, bias, past, *scan.values()):
        assert tensor.grad is not None
        assert tensor.grad.dtype == tensor.dtype
        assert tensor.grad.abs().sum() > 0
