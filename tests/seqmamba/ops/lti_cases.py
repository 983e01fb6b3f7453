"""Arguments for `lti`, in float64 and complex128, and outputs and gradients to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from operator_cases import TOLERANCE
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Transforms mix all steps: their rounding is relative to the largest output, as that of the sums is.
LTI_TOLERANCE = TOLERANCE | {torch.float32: 1e-5}


def lti_arguments(
    batch: int = 2,
    length: int = 37,
    dim: int = 6,
    state: int = 4,
    *,
    low_rank: bool = False,
    every: bool = True,
) -> dict[str, Tensor]:
    """All tensor arguments of `lti`, with P if low_rank, or with every=False only those it needs."""
    generator = torch.Generator().manual_seed(1000 * length + dim)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def paired(*shape: int) -> Tensor:
        return torch.complex(normal(*shape), normal(*shape))

    arguments = {
        "u": normal(batch, length, dim),
        "delta": 0.05 * normal(dim).exp(),
        "A": torch.complex(-normal(dim, state).abs() - 0.1, 5 * normal(dim, state)),
        "B": paired(dim, state),
        "C": paired(dim, state),
    }
    if every:
        arguments |= {"D": normal(dim), "initial_state": paired(batch, dim, state)}
    if low_rank:
        arguments["P"] = paired(dim, state)
    return arguments


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """To a real dtype, or if complex to the complex one that computes with it."""
    if not x.is_complex():
        return x.to(dtype)
    return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)


def run_lti(
    operator: Callable[..., Any], arguments: dict[str, Tensor], dtype: torch.dtype, **options: Any
) -> dict[str, Tensor]:
    """Both outputs, and the gradient of every argument for a fixed random gradient of the outputs."""
    leaves = {name: cast(x, dtype).clone().requires_grad_() for name, x in arguments.items()}
    y, final = operator(**leaves, **options, return_final_state=True)
    generator = torch.Generator().manual_seed(7)
    seeds = [gradient_like(x, generator) for x in (y, final)]
    gradients = torch.autograd.grad([y, final], list(leaves.values()), seeds)
    named = dict(zip((f"gradient of {name}" for name in leaves), gradients, strict=True))
    return {"y": y.detach(), "final state": final.detach(), **named}


def gradient_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers that every dtype holds, in the shape, dtype and device of `x` but dense."""
    parts = torch.randn(*x.shape, 2, generator=generator).bfloat16().float()
    return (torch.view_as_complex(parts) if x.is_complex() else parts[..., 0]).to(x)


def rounded(arguments: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """What `run_lti` would use in `dtype`, in float64: a fair input for the reference."""
    return {name: cast(cast(x, dtype), torch.float64) for name, x in arguments.items()}


def whole_matrix(A: Tensor, P: Tensor) -> Tensor:
    """The complex state matrix (dim, 2 state, 2 state) with the conjugate half written out."""
    diagonal, column = torch.cat((A, A.conj()), dim=-1), torch.cat((P, P.conj()), dim=-1)
    return torch.diag_embed(diagonal) - column[:, :, None] * column.conj()[:, None, :]


class Watch(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, and counts the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel() * (2 if result.is_complex() else 1))
        name = func._schema.name
        self.calls[name] = self.calls.get(name, 0) + 1
        return result
