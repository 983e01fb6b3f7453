"""Operators on what models really hand them: views, few gradients, several lengths in one compiled graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from seqmamba.ops import causal_conv1d, selective_scan, ssd


def arguments(operator: str, length: int, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    batch, dim, state, heads = 2, 8, 5, 2
    sequence, channels = (batch, length, dim), (dim,)
    if operator == "causal_conv1d":
        return {"x": normal(*sequence), "weight": normal(dim, 4), "bias": normal(*channels)}
    if operator == "ssd":
        sequence, channels = (batch, length, heads, dim // heads), (heads,)
    first = "x" if operator == "ssd" else "u"
    return {
        first: normal(*sequence),
        "delta": normal(*(sequence[:3] if operator == "ssd" else sequence)) - 2,
        "A": -normal(*(channels if operator == "ssd" else (dim, state))).exp(),
        "B": normal(batch, length, state),
        "C": normal(batch, length, state),
        "z": normal(*sequence),
    }


OPERATORS: dict[str, Any] = {"selective_scan": selective_scan, "causal_conv1d": causal_conv1d, "ssd": ssd}
OPTIONS: dict[str, dict[str, Any]] = {
    "selective_scan": {"delta_softplus": True},
    "causal_conv1d": {"activation": "silu"},
    "ssd": {"delta_softplus": True, "chunk_size": 64},
}
each_operator = pytest.mark.parametrize("operator", OPERATORS)


def outputs(operator: str, given: dict[str, Tensor], **options: Any) -> tuple[Tensor, Tensor]:
    return OPERATORS[operator](**given, **OPTIONS[operator], return_final_state=True, **options)


def scattered(x: Tensor) -> Tensor:
    """The same values with gaps between them and the axes in another order."""
    wide = torch.full((*x.shape[::-1], 3), torch.nan, device=x.device)
    wide[..., 1] = x.permute(*range(x.ndim - 1, -1, -1))
    return wide[..., 1].permute(*range(x.ndim - 1, -1, -1))


@each_operator
def test_views_give_the_same_numbers(operator: str, device: str) -> None:
    given = arguments(operator, 37, device)
    results = []
    for arrange in (torch.clone, scattered):
        leaves = {name: arrange(x).requires_grad_() for name, x in given.items()}
        y, final = outputs(operator, leaves)
        # the gradient that .sum() sends back is an expanded view of one number
        results.append([y, final, *torch.autograd.grad(y.sum() + final.sum(), list(leaves.values()))])
    torch.testing.assert_close(*results)


@each_operator
def test_gradients_of_some_arguments_are_those_of_all(operator: str, device: str) -> None:
    given = arguments(operator, 37, device)
    leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
    expected = dict(
        zip(
            leaves,
            torch.autograd.grad(outputs(operator, leaves)[0].square().sum(), leaves.values()),
            strict=True,
        )
    )
    for name, x in given.items():
        one = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(outputs(operator, {**given, name: one})[0].square().sum(), one)
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("operator", ["selective_scan", "causal_conv1d"])
@pytest.mark.parametrize("reverse", [False, True])
def test_one_graph_with_every_option(operator: str, reverse: bool, device: str) -> None:
    def run(given: dict[str, Tensor], reset: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return outputs(operator, given, reset=reset, initial_state=state, reverse=reverse)

    fast = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (33, 64, 5):
            given = arguments(operator, length, device)
            reset = torch.rand(2, length, generator=torch.Generator().manual_seed(1)).to(device) < 0.2
            state = outputs(operator, given)[1]
            results = []
            for function in (fast, run):
                leaves = [x.clone().requires_grad_() for x in (*given.values(), state)]
                y, final = function(dict(zip(given, leaves, strict=False)), reset, leaves[-1])
                total = y.square().sum() + final.square().sum()
                results.append([y, final, *torch.autograd.grad(total, leaves)])
            torch.testing.assert_close(*results)
    assert counters["stats"]["unique_graphs"] == 1


def test_ssd_compiles_whole(device: str) -> None:
    given = arguments("ssd", 70, device)
    fast = torch.compile(ssd, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(fast(**given, **OPTIONS["ssd"]), ssd(**given, **OPTIONS["ssd"]))
