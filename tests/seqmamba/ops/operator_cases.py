"""Arguments for the operators, and outputs and gradients to compare, in float64 unless asked otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Largest error allowed, relative to the largest value of the tensor: rounding of the outputs, and for float32
# also that of sums over a few hundred steps.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 4e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def scan_arguments(
    batch: int = 2, length: int = 37, dim: int = 6, state: int = 5, groups: int = 1, *, every: bool = True
) -> dict[str, Tensor]:
    """All tensor arguments of `selective_scan`, or with every=False only those it needs."""
    generator = torch.Generator().manual_seed(1000 * length + dim)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    arguments = {
        "u": normal(batch, length, dim),
        "delta": normal(batch, length, dim).abs() * 0.3 if not every else normal(batch, length, dim) - 2,
        "A": -(normal(dim, state).abs() * 3 + 0.1),
        "B": normal(batch, length, state) if groups == 1 else normal(batch, length, groups, state),
        "C": normal(batch, length, state) if groups == 1 else normal(batch, length, groups, state),
    }
    if every:
        arguments |= {
            "D": normal(dim),
            "z": normal(batch, length, dim),
            "delta_bias": normal(dim) * 0.1,
            "initial_state": normal(batch, dim, state),
        }
    return arguments


def conv_arguments(batch: int = 2, length: int = 37, dim: int = 6, width: int = 4) -> dict[str, Tensor]:
    """All tensor arguments of `causal_conv1d`."""
    generator = torch.Generator().manual_seed(1000 * length + dim)

    def normal(*shape: int) -> Tensor:
        x = torch.randn(*shape, dtype=torch.float64, device="cpu", generator=generator)
        return x.to(torch.get_default_device())

    return {
        "x": normal(batch, length, dim),
        "weight": normal(dim, width),
        "bias": normal(dim),
        "initial_state": normal(batch, width - 1, dim),
    }


def some_resets(batch: int, length: int) -> Tensor:
    """A (batch, length) mask with about one reset in eight steps, the first and the last step among them."""
    generator = torch.Generator().manual_seed(length)
    mask = torch.rand(batch, length, device="cpu", generator=generator) < 0.125
    mask[0, 0] = mask[-1, -1] = True
    return mask.to(torch.get_default_device())


def run_with_gradients(
    operator: Callable[..., Any], arguments: dict[str, Tensor], dtype: torch.dtype, **options: Any
) -> dict[str, Tensor]:
    """Outputs, and the gradient of every argument for a fixed random gradient of both outputs.

    Arguments are taken in `dtype`, states in float32 at least.
    """
    leaves = {name: _cast(name, x, dtype).clone().requires_grad_() for name, x in arguments.items()}
    y, final = operator(**leaves, **options, return_final_state=True)
    generator = torch.Generator().manual_seed(7)
    seeds = [
        torch.randn(x.shape, dtype=torch.float64, device="cpu", generator=generator).bfloat16().to(x)
        for x in (y, final)
    ]
    gradients = torch.autograd.grad([y, final], list(leaves.values()), seeds)
    named = dict(zip((f"gradient of {name}" for name in leaves), gradients, strict=True))
    return {"y": y.detach(), "final state": final.detach(), **named}


def rounded(arguments: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """What `run_with_gradients` would use in `dtype`, in float64: a fair input for the reference."""
    return {name: _cast(name, x, dtype).double() for name, x in arguments.items()}


def assert_all_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compare tensor by tensor, relative to the largest value of each expected one; NaN fails."""
    for name, wanted in expected.items():
        if wanted.numel() == 0:
            assert actual[name].shape == wanted.shape
            continue
        error = (actual[name].to(wanted.dtype) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)
        assert error <= tolerance, f"{name}: relative error {error.item():.2e} > {tolerance:.0e}"


def _cast(name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
    keeps = name == "initial_state" and dtype in (torch.bfloat16, torch.float16)
    return x.to(torch.float32 if keeps else dtype)
