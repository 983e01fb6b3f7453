"""torch.compile of the backbone: one graph, compiled once for all lengths, with eager's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from composed import KINDS, assert_same, backbone_on, features, gradients, kind_name, resets
from torch import Tensor, nn
from torch._dynamo.utils import counters

LENGTHS = (33, 40, 64, 7, 2)


def compiled(model: Any, backend: str = "aot_eager") -> Any:
    # aot_eager traces forward and backward as every backend does, and needs no C++ compiler
    return torch.compile(model, fullgraph=True, dynamic=True, backend=backend)


@pytest.fixture
def _compile_once() -> Iterator[None]:
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield


@pytest.mark.usefixtures("_compile_once")
@pytest.mark.parametrize("kind", KINDS[::2], ids=kind_name)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_one_graph_serves_every_length(kind: dict[str, Any], checkpointed: bool, device: str) -> None:
    backbone = backbone_on(device, n_layers=1, checkpoint_activations=checkpointed, **kind)
    fast = compiled(backbone)
    for length in LENGTHS:
        x, reset = features(length, device), resets(length, device)
        actual = gradients(backbone, lambda x, reset=reset: fast(x, reset=reset), x)
        expected = gradients(backbone, lambda x, reset=reset: backbone(x, reset=reset), x)
        assert_same(actual, expected, 1e-6)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.usefixtures("_compile_once")
def test_one_graph_serves_every_chunk_of_a_stream(device: str) -> None:
    backbone = backbone_on(device)
    fast = compiled(backbone)
    x = features(sum(LENGTHS), device)
    state, outputs = backbone.init_state(2), []
    with torch.no_grad():
        for chunk in x.split(LENGTHS, dim=1):
            y, state = fast(chunk, state=state, return_state=True)
            outputs.append(y)
        whole, final = backbone(x, return_state=True)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)
    torch.testing.assert_close(state, final)


def test_gradients_flow_through_a_carried_state(device: str) -> None:
    backbone = backbone_on(device, n_layers=1)

    def two_chunks(model: nn.Module, x: Tensor) -> Tensor:
        first, state = model(x[:, :20], return_state=True)
        second, state = model(x[:, 20:], state=state, return_state=True)
        final = state.layers[0].scan.transpose(1, 2)  # (batch, state, dim)
        return torch.cat([first, second, final[..., :16]], dim=1)

    x = features(53, device)
    fast = compiled(two_chunks)
    actual = gradients(backbone, lambda x: fast(backbone, x), x)
    assert_same(actual, gradients(backbone, lambda x: two_chunks(backbone, x), x), 1e-6)


def test_autocast_inside_a_compiled_region(device: str) -> None:
    backbone = backbone_on(device, n_layers=1)

    def narrow(x: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return backbone(x)

    fast, x = compiled(narrow), features(40, device)
    assert_same(gradients(backbone, fast, x), gradients(backbone, narrow, x), 1e-6)


def test_inductor_gives_the_same_numbers(device: str) -> None:
    backbone = backbone_on(device, n_layers=1)
    fast, x = compiled(backbone, "inductor"), features(40, device)
    assert_same(gradients(backbone, fast, x), gradients(backbone, backbone, x), 1e-5)


def test_a_second_derivative_is_refused(device: str) -> None:
    backbone = backbone_on(device, n_layers=1)
    x = features(9, device).requires_grad_()
    fast = compiled(backbone)

    def second_derivative() -> None:
        (first,) = torch.autograd.grad(fast(x).square().sum(), x, create_graph=True)
        first.sum().backward()

    with pytest.raises(RuntimeError, match=r"double backward|create_graph=False"):
        second_derivative()
