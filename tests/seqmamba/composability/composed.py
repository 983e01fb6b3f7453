"""Small models, and gradients to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqmamba import Backbone, BackboneConfig

KINDS: list[dict[str, Any]] = [
    {"direction": "causal"},
    {"direction": "bidirectional", "combine": "add"},
    {"direction": "bidirectional", "combine": "gate"},
]


def kind_name(kind: dict[str, Any]) -> str:
    return "-".join(kind.values())


def backbone_on(device: str, n_layers: int = 2, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(BackboneConfig(16, n_layers, d_state=8, **options)).to(device)


def features(length: int, device: str, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, 16, generator=generator).to(device)


def resets(length: int, device: str, batch: int = 2) -> Tensor:
    return (torch.rand(batch, length, generator=torch.Generator().manual_seed(length)) < 0.15).to(device)


def gradients(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Tensor]:
    """The output of `run`, and the gradients of its input and of the model's parameters."""
    model.zero_grad()
    leaf = x.detach().clone().requires_grad_()
    y = run(leaf)
    # Not a sum of squares: behind a norm that is constant, and its gradients nothing but rounding.
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.device)
    (y.float() * weights).sum().backward()
    assert leaf.grad is not None
    found = {"y": y.detach(), "x": leaf.grad}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == parameter.dtype, name
        found[name] = parameter.grad.clone()
    return found


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 0.0) -> None:
    """Compare relative to the largest value of each tensor; with no tolerance, bit by bit."""
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        if tolerance == 0:
            assert torch.equal(actual[name], wanted), name
            continue
        error = (actual[name].double() - wanted.double()).abs().max() / wanted.double().abs().max()
        assert error <= tolerance, f"{name}: relative error {error.item():.1e} > {tolerance:.0e}"
