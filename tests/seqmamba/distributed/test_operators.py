"""Operators over ranks give the outputs, states and gradients of one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from ranks import run_on_ranks
from torch import Tensor

from seqmamba import distributed, ops
from seqmamba.distributed import ContextGroup, own_piece

BATCH, DIM, STATE, HEADS = 3, 4, 3, 2
SEQUENCES = ("u", "x", "delta", "B", "C", "z")
Arguments = dict[str, Any]


def packed(length: int) -> Tensor:
    """Borders inside pieces, and at and beside those of 2 and 4 ranks."""
    reset = torch.zeros(BATCH, length, dtype=torch.bool)
    reset[0, [0, 7, length // 2 - 1, length // 2, length // 2 + 1, length - 2]] = True
    reset[1, [length // 4, length // 2]] = True
    reset[2, [0, length - 5]] = True  # a state from the right reaches the left end
    return reset


def scan_arguments(length: int, seed: int = 0, complex_state: bool = False) -> Arguments:
    """Float64, slow enough to be heard from the first rank to the last."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        if complex_state and shape[-1] == STATE:
            return torch.randn(*shape, dtype=torch.complex128, generator=draw)
        return torch.randn(*shape, dtype=torch.float64, generator=draw)

    A = -torch.rand(DIM, STATE, dtype=torch.float64, generator=draw) * 0.3
    return {
        "u": normal(BATCH, length, DIM),
        "delta": normal(BATCH, length, DIM) - 2,
        "A": torch.complex(A, normal(DIM, 1).expand_as(A).contiguous().real) if complex_state else A,
        "B": normal(BATCH, length, STATE),
        "C": normal(BATCH, length, STATE),
        "D": normal(DIM),
        "z": normal(BATCH, length, DIM),
        "delta_bias": normal(DIM),
        "initial_state": normal(BATCH, DIM, STATE),
    }


def ssd_arguments(length: int) -> Arguments:
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=draw)

    return {
        "x": normal(BATCH, length, HEADS, DIM),
        "delta": normal(BATCH, length, HEADS) - 2,
        "A": -torch.rand(HEADS, dtype=torch.float64, generator=draw) * 0.3,
        "B": normal(BATCH, length, 1, STATE),
        "C": normal(BATCH, length, 1, STATE),
        "D": normal(HEADS),
        "z": normal(BATCH, length, HEADS, DIM),
        "delta_bias": normal(HEADS),
        "initial_state": normal(BATCH, HEADS, DIM, STATE),
    }


def convolution_arguments(length: int) -> Arguments:
    draw = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=draw)

    return {
        "x": normal(BATCH, length, DIM),
        "weight": normal(DIM, 4),
        "bias": normal(DIM),
        "initial_state": normal(BATCH, 3, DIM),
    }


def lti_arguments(length: int, low_rank: bool) -> Arguments:
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex128, generator=draw)

    A = torch.complex(
        -0.02 - 0.1 * torch.rand(DIM, STATE, dtype=torch.float64, generator=draw), normal(DIM, STATE).real
    )
    return {
        "u": normal(BATCH, length, DIM).real.contiguous(),
        "delta": torch.rand(DIM, dtype=torch.float64, generator=draw) * 0.2,
        "A": A,
        "B": normal(DIM, STATE),
        "C": normal(DIM, STATE),
        "D": normal(DIM).real.contiguous(),
        "P": 0.3 * normal(DIM, STATE) if low_rank else None,
        "initial_state": normal(BATCH, DIM, STATE),
    }


def _is_sequence(name: str, x: Tensor | None) -> bool:
    return x is not None and x.ndim > 2 and name in SEQUENCES


def results(
    operator: Callable[..., Any], arguments: Arguments, context: ContextGroup | None, options: dict[str, Any]
) -> dict[str, Tensor]:
    """Outputs and gradients of a loss that hears every position and the final state, of this rank's share."""
    leaves: Arguments = {
        name: None if x is None else x.clone().requires_grad_() for name, x in arguments.items()
    }
    given = {name: own_piece(context, x) if _is_sequence(name, x) else x for name, x in leaves.items()}
    if options.get("reset") is not None:
        options = {**options, "reset": own_piece(context, options["reset"])}
    placed = {} if context is None else {"context": context}
    y, final = operator(**given, return_final_state=True, **options, **placed)
    length = next(x for name, x in arguments.items() if name in ("u", "x")).shape[1]
    weight = own_piece(context, torch.linspace(1, 2, length, dtype=torch.float64)[None])
    loss = (y.square() * weight.view(1, -1, *(1,) * (y.ndim - 2))).sum()
    # every rank has a copy of the final state: each takes its part of what it costs
    loss = loss + final.abs().square().sum() / (1 if context is None else context.size)
    loss.backward()
    found = {"y": y.detach(), "final": final.detach(), "loss": loss.detach()}
    for name, leaf in leaves.items():
        if leaf is not None:
            found[f"d_{name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return found


CASES: dict[str, tuple[str, Callable[[int], Arguments], dict[str, Any]]] = {
    "selective_scan": ("selective_scan", scan_arguments, {"delta_softplus": True}),
    "selective_scan complex": (
        "selective_scan",
        lambda length: scan_arguments(length, complex_state=True),
        {"delta_softplus": True},
    ),
    "ssd": ("ssd", ssd_arguments, {"delta_softplus": True, "chunk_size": 8}),
    "causal_conv1d": ("causal_conv1d", convolution_arguments, {"activation": "silu"}),
    "s4d": ("lti", lambda length: lti_arguments(length, False), {}),
    "s4": ("lti", lambda length: lti_arguments(length, True), {"discretisation": "bilinear"}),
}


def every_case(context: ContextGroup, length: int) -> dict[str, dict[str, Tensor]]:
    found = {}
    for name, (operator, arguments, options) in CASES.items():
        for reverse in (False, True):
            for reset in (None, packed(length)):
                more = {**options, "reverse": reverse, "reset": reset}
                key = f"{name} {'reverse' if reverse else 'forward'} {'packed' if reset is not None else ''}"
                found[key] = results(getattr(distributed, operator), arguments(length), context, more)
    return found


@pytest.mark.parametrize(("size", "length"), [(2, 64), (2, 67), (4, 83)])
def test_outputs_states_and_gradients_equal_one_process(size: int, length: int) -> None:
    ranks = run_on_ranks(size, every_case, length)
    for name, (operator, arguments, options) in CASES.items():
        for reverse in (False, True):
            for reset in (None, packed(length)):
                more = {**options, "reverse": reverse, "reset": reset}
                expected = results(getattr(ops, operator), arguments(length), None, more)
                key = f"{name} {'reverse' if reverse else 'forward'} {'packed' if reset is not None else ''}"
                found = [rank[key] for rank in ranks]
                joined = {"y": torch.cat([each["y"] for each in found], dim=1)}
                for part in expected.keys() - {"y", "final"}:
                    joined[part] = sum(each[part] for each in found)
                for each in found:
                    torch.testing.assert_close(each["final"], expected["final"], rtol=1e-10, atol=1e-10)
                for part, value in joined.items():
                    say = partial("{}: {}: {}".format, key, part)
                    torch.testing.assert_close(value, expected[part], rtol=1e-10, atol=1e-10, msg=say)
