"""A quick numeric test of every implementation of every operator on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import causal_conv1d, explain, selective_scan

TOLERANCE = 1e-4
"""Largest accepted difference to float64, relative to the largest value of the tensor."""

_BATCH, _LENGTH, _DIM, _STATE, _WIDTH = 2, 37, 8, 4, 4


@dataclass(frozen=True)
class OperatorVerdict:
    """How one implementation fared.

    Args:
        operator: Name of the operator.
        impl: Name of the implementation.
        device: Where it ran.
        default: Whether ``impl="auto"`` takes it.
        error: Largest relative difference of outputs and gradients to the float64 reference; None if it
            cannot run here.
        detail: In words, what happened.
    """

    operator: str
    impl: str
    device: str
    default: bool
    error: float | None
    detail: str

    @property
    def ok(self) -> bool:
        """Whether the implementation is right, or does not apply here and is not the default."""
        return not self.default if self.error is None else self.error <= TOLERANCE


def check_operators(device: torch.device) -> list[OperatorVerdict]:
    """Compare outputs and all gradients of each implementation with the float64 reference.

    Args:
        device: Device to test.

    Returns:
        A verdict an operator and implementation, in order of preference.
    """
    verdicts: list[OperatorVerdict] = []
    for name, run, arguments in (
        ("selective_scan", _run_scan, _scan_arguments()),
        ("causal_conv1d", _run_conv, _conv_arguments()),
    ):
        inputs: dict[str, Any] = {key: value.float().to(device) for key, value in arguments.items()}
        explanation = explain(name, **inputs)
        expected = _outputs_and_gradients(run, arguments, "reference")
        for impl in explanation.verdicts:
            error, detail = _compare(run, inputs, impl, expected)
            verdicts.append(
                OperatorVerdict(name, impl, str(device), impl == explanation.chosen, error, detail)
            )
    return verdicts


def _compare(
    run: Callable[[dict[str, Tensor], str], Tensor],
    inputs: dict[str, Tensor],
    impl: str,
    expected: Sequence[Tensor],
) -> tuple[float | None, str]:
    try:
        got = _outputs_and_gradients(run, inputs, impl)
    except UserError as refusal:
        return None, f"cannot run here: {refusal.message}"
    except Exception as failure:  # a broken compiler or driver: report it, test the rest
        return float("inf"), f"failed with {type(failure).__name__}: {str(failure).strip().splitlines()[:1]}"
    errors = [
        float((a.double().cpu() - b).abs().max() / b.abs().max()) for a, b in zip(got, expected, strict=True)
    ]
    error = max(float("inf") if value != value else value for value in errors)
    return error, f"differs from float64 by {error:.1e} at most"


def _outputs_and_gradients(
    run: Callable[[dict[str, Tensor], str], Tensor], arguments: dict[str, Tensor], impl: str
) -> list[Tensor]:
    leaves = {key: value.clone().requires_grad_() for key, value in arguments.items()}
    y = run(leaves, impl)
    weight = torch.linspace(-1.0, 1.0, y.numel(), dtype=torch.float64).reshape(y.shape).to(y)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), list(leaves.values()))]


def _run_scan(arguments: dict[str, Any], impl: str) -> Any:
    return selective_scan(**arguments, delta_softplus=True, impl=impl)


def _run_conv(arguments: dict[str, Any], impl: str) -> Any:
    return causal_conv1d(**arguments, activation="silu", impl=impl)


def _scan_arguments() -> dict[str, Tensor]:
    draw = _Draw()
    return {
        "u": draw(_BATCH, _LENGTH, _DIM),
        "delta": draw(_BATCH, _LENGTH, _DIM),
        "A": -draw(_DIM, _STATE).exp(),
        "B": draw(_BATCH, _LENGTH, _STATE),
        "C": draw(_BATCH, _LENGTH, _STATE),
        "D": draw(_DIM),
        "z": draw(_BATCH, _LENGTH, _DIM),
        "delta_bias": draw(_DIM),
    }


def _conv_arguments() -> dict[str, Tensor]:
    draw = _Draw()
    return {"x": draw(_BATCH, _LENGTH, _DIM), "weight": draw(_DIM, _WIDTH), "bias": draw(_DIM)}


class _Draw:
    """Normal numbers that float32 can hold exactly, the same on every call of the command."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator).double()
