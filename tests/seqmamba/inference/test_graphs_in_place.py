"""Graphs whose steps write the new state into the buffers of the old one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from causal_models import BACKBONES, GROWING, language_model, prompt
from recorded_graph import record_graphs, steps_in_place
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seqmamba.inference import Decoder, GraphedSteps, SamplingConfig, begin, step_period
from seqmamba.nn.state import Mamba2State, MambaState, S4State
from seqmamba.ops import selective_state_step

STEADY = [name for name in BACKBONES if name not in GROWING]
SAMPLING = SamplingConfig(top_p=0.95, seed=3)
PIECES = (1, 5, 6, 12, 19)


@pytest.fixture
def _recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    record_graphs(monkeypatch)
    with steps_in_place(monkeypatch):
        yield


def tensors(state: Any) -> list[Tensor]:
    return [x for x in tree_leaves(state) if isinstance(x, Tensor)]


def step_states(state: Any) -> list[Tensor]:
    """The tensors of a model's state that step operators advance."""
    kinds = (MambaState, Mamba2State, S4State)
    layers = tree_leaves(state, is_leaf=lambda part: isinstance(part, kinds))
    return [x for layer in layers if isinstance(layer, kinds) for x in tensors(layer)]


def period_of_steps(backbone: Any) -> Callable[[Any, Tensor], tuple[Tensor, Any]]:
    """A function that steps through features (batch, length, dim), which a graph can hold."""

    def steps(state: Any, x: Tensor) -> tuple[Tensor, Any]:
        made = []
        for step in x.split(1, dim=1):
            y, state = backbone(step, state=state, return_state=True)
            made.append(y)
        return torch.cat(made, dim=1), state

    return steps


@pytest.mark.usefixtures("_recorded")
@pytest.mark.parametrize("name", STEADY)
def test_graphs_that_change_the_state_in_place_draw_what_steps_draw(name: str) -> None:
    model = language_model(name)
    start = begin(model, prompt(3, 8))
    before = start.clone()
    plain, graphed = Decoder(model, start, SAMPLING, graph=False), Decoder(model, start, SAMPLING)
    graphed._may_graph, graphed._steady = True, True
    for n_tokens in PIECES:
        expected, block = plain.advance(n_tokens), graphed.advance(n_tokens)
        assert torch.equal(block.tokens, expected.tokens)
        torch.testing.assert_close(block.log_probs, expected.log_probs, atol=1e-4, rtol=0)
        torch.testing.assert_close(block.state, expected.state, atol=1e-5, rtol=1e-5)
    assert graphed.graphed
    torch.testing.assert_close(start, before, atol=0, rtol=0)


@pytest.mark.usefixtures("_recorded")
@pytest.mark.parametrize("name", ["mamba", "mamba2", "s4", "multiscale", "mamba-window"])
def test_each_state_is_written_once_a_step_and_never_copied_back(name: str) -> None:
    """Those of coarse stages once in a period: the steps between leave them alone."""
    backbone = language_model(name).backbone.eval()
    graphed = GraphedSteps(period_of_steps(backbone), backbone.init_state(2), in_place=True)
    graphed(torch.randn(2, step_period(backbone), 8))
    written = [x.data_ptr() for x in graphed._graph.written()]
    counts = {written.count(x.data_ptr()) for x in step_states(graphed.state)}
    assert counts == ({1, 3, 6} if name == "multiscale" else {1})


class Two(NamedTuple):
    older: Tensor
    newer: Tensor


@pytest.mark.usefixtures("_recorded")
def test_a_function_that_reads_a_state_again_is_served_by_default() -> None:
    """Two steps from one state: in place, the second would start from the result of the first."""
    A, B = -torch.ones(3, 2), torch.ones(1, 2)

    def twice(state: Two, x: Tensor) -> tuple[Tensor, Two]:
        y, new = selective_state_step(state.newer, x, x.abs(), A, B, B)
        other, _ = selective_state_step(state.newer, 2 * x, x.abs(), A, B, B)
        return y + other, Two(state.newer, new)

    state = Two(torch.zeros(1, 3, 2), torch.ones(1, 3, 2))
    graphed = GraphedSteps(twice, state)
    for _ in range(3):
        x = torch.randn(1, 3)
        expected, state = twice(state, x)
        torch.testing.assert_close(graphed(x), expected)
        torch.testing.assert_close(graphed.state, state)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mamba", "mamba2", "s4", "multiscale", "mamba-window", "lstm"])
@pytest.mark.parametrize("in_place", [False, True])
def test_features_stepped_in_place_are_those_of_steps(name: str, in_place: bool) -> None:
    backbone = language_model(name).backbone.cuda().eval()
    steps, period = period_of_steps(backbone), step_period(backbone)
    start = backbone.init_state(2)
    graphed, state = GraphedSteps(steps, start, in_place=in_place), start
    for _ in range(4):
        x = torch.randn(2, period, 8, device="cuda")
        with torch.no_grad():
            expected, state = steps(state, x)
        torch.testing.assert_close(graphed(x), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(graphed.state, state, atol=1e-5, rtol=1e-5)
    assert not any(part.any() for part in tensors(start))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mamba", "mamba2", "s4"])
def test_no_state_of_a_layer_is_copied_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model(name).cuda()
    decoder = Decoder(model, begin(model, prompt(3, 8)), SAMPLING, graph=True)
    copied: list[int] = []
    copy = torch._foreach_copy_

    def spy(targets: list[Tensor], sources: list[Tensor]) -> None:
        if torch.cuda.is_current_stream_capturing():
            copied.extend(x.data_ptr() for x in targets)
        copy(targets, sources)

    monkeypatch.setattr(torch, "_foreach_copy_", spy)
    decoder.advance(32)
    states = step_states(decoder._state.model)
    assert states
    assert copied  # tokens and positions
    assert not {x.data_ptr() for x in states} & set(copied)


@pytest.mark.gpu
def test_a_state_written_in_place_is_not_there_twice() -> None:
    """The graph's own memory stays far below that of the state, which is all that is large here."""
    torch.manual_seed(0)
    layers = 4
    state = tuple(torch.randn(64, 512, 128, device="cuda") for _ in range(layers))
    size = layers * state[0].nbytes
    A, B = -torch.ones(512, 128, device="cuda"), torch.ones(64, 128, device="cuda")

    def steps(state: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        new = []
        for part in state:
            x, after = selective_state_step(part, x, x.abs(), A, B, B)
            new.append(after)
        return x, tuple(new)

    graphed = GraphedSteps(steps, state, in_place=True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    graphed(torch.randn(64, 512, device="cuda"))
    assert torch.cuda.max_memory_allocated() - before < 1.25 * size  # its buffers
