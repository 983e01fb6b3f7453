"""Periods of steps as one CUDA graph; on a CPU the same classes run the steps themselves."""

from __future__ import annotations

import gc
from typing import Any, NamedTuple

import pytest
import torch
from causal_models import BACKBONES, GROWING, language_model, prompt
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seqmamba.errors import UserError
from seqmamba.inference import (
    Decoder,
    GraphedSteps,
    SamplingConfig,
    StopRule,
    begin,
    generate_blocks,
    step_period,
)
from seqmamba.nn.state import map_state

STEADY = [name for name in BACKBONES if name not in GROWING]
SAMPLING = SamplingConfig(top_p=0.95, seed=3)
PIECES = (1, 5, 6, 13, 2, 40, 12, 9, 37)  # periods are 1 or 6 steps, graphs 1 and 16 or 6 and 18
each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


class Pair(NamedTuple):
    older: Tensor
    newer: Tensor
    phase: int


def shift(state, x):
    """A state in which one part becomes another one as it is, the trap of an update in place."""
    return state.older * 10 + x, Pair(state.newer, state.newer + x, state.phase)


def grow(state, x):
    return x, Pair(torch.cat([state.older, x], dim=1), state.newer, state.phase)


def turn(state, x):
    return x, state._replace(phase=state.phase + 1)


def pair(device):
    return Pair(torch.zeros(2, 1, device=device), torch.ones(2, 1, device=device), 0)


def assert_same_block(left, right):
    assert torch.equal(left.tokens, right.tokens)
    assert torch.equal(left.drawn, right.drawn)
    torch.testing.assert_close(left.log_probs, right.log_probs, atol=1e-4, rtol=0)


@each_device
def test_replays_are_calls(device):
    start = pair(device)
    steps, state = GraphedSteps(shift, start), start
    for t in range(5):
        x = torch.full((2, 1), float(t), device=device)
        expected, state = shift(state, x)
        assert torch.equal(steps(x), expected)
        assert torch.equal(steps.state.older, state.older)
        assert torch.equal(steps.state.newer, state.newer)
    assert start.newer.tolist() == [[1], [1]]
    assert start.older.tolist() == [[0], [0]]


@each_device
def test_a_graph_goes_on_from_another_state(device):
    steps, x = GraphedSteps(shift, pair(device)), torch.ones(2, 1, device=device)
    steps(x)
    other = Pair(torch.full((2, 1), 3.0, device=device), torch.full((2, 1), 5.0, device=device), 0)
    steps.load(other)
    assert steps(x).tolist() == [[31], [31]]
    assert other.older.tolist() == [[3], [3]]


@each_device
def test_a_state_that_changes_its_form_is_refused(device):
    x = torch.ones(2, 1, device=device)
    message = r"keeps its form, got before and after its steps older: float32 \(2, 1\) and float32 \(2, 2\)"
    with pytest.raises(UserError, match=message):
        GraphedSteps(grow, pair(device))(x)
    with pytest.raises(UserError, match="before and after its steps phase: 0 and 1"):
        GraphedSteps(turn, pair(device))(x)


def test_the_period_of_a_model_is_that_of_its_stages():
    assert step_period(language_model("mamba")) == 1
    assert step_period(language_model("multiscale")) == 6


def decoder_with_borders(model, start, steady, stop=None):
    """What runs on a GPU, with `GraphedSteps` on a CPU in place of the graph."""
    decoder = Decoder(model, start, SAMPLING, stop)
    decoder._may_graph, decoder._steady = True, steady
    return decoder


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("name", STEADY)
def test_steps_in_periods_are_steps(name, steady):
    model = language_model(name)
    start = begin(model, prompt(3, 8))
    rule = StopRule(tokens=(1,), pad=2)
    plain, periodic = Decoder(model, start, SAMPLING, rule), decoder_with_borders(model, start, steady, rule)
    for index, n_tokens in enumerate(PIECES):
        expected, block = plain.advance(n_tokens), periodic.advance(n_tokens)
        assert_same_block(block, expected)
        torch.testing.assert_close(block.state, expected.state, atol=1e-5, rtol=1e-5)
        assert periodic.graphed or index < len(PIECES) - 1
    assert not plain.graphed


@pytest.mark.parametrize("name", GROWING)
def test_a_growing_state_is_never_graphed(name):
    model = language_model(name)
    start = begin(model, prompt(2, 8))
    plain, periodic = Decoder(model, start, SAMPLING), decoder_with_borders(model, start, steady=False)
    assert_same_block(periodic.advance(7), plain.advance(7))
    assert not periodic.graphed
    with pytest.raises(
        UserError, match=r"a CUDA graph needs a state that keeps its form.*attention without a window"
    ):
        decoder_with_borders(model, start, steady=True).advance(7)


def test_other_weights_get_other_graphs():
    model = language_model("s4")
    decoder = decoder_with_borders(model, begin(model, prompt(2, 3)), steady=True)
    decoder.advance(17)
    graphs = set(decoder._graphs.values())
    assert len(graphs) == 2
    decoder.advance(17)
    assert set(decoder._graphs.values()) == graphs
    with torch.no_grad():
        model.backbone.layers[1].mixer.log_dt.add_(0.5)
    decoder.advance(17)
    assert not set(decoder._graphs.values()) & graphs


def test_a_graph_cannot_be_had_without_a_gpu():
    model = language_model("mamba")
    with pytest.raises(UserError, match="graph: CUDA graphs need an NVIDIA GPU, but the state is on cpu"):
        generate_blocks(model, begin(model), graph=True)


def on_gpu(name, **options):
    model = language_model(name, **options).cuda()
    return model, begin(model, prompt(3, 8))


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [True, None])
@pytest.mark.parametrize("name", STEADY)
def test_a_graph_draws_what_steps_draw(name, graph):
    model, start = on_gpu(name)
    rule = StopRule(tokens=(1,), pad=2)
    eager = Decoder(model, start, SAMPLING, rule, graph=False)
    graphed = Decoder(model, start, SAMPLING, rule, graph=graph)
    for n_tokens in PIECES:
        assert_same_block(graphed.advance(n_tokens), eager.advance(n_tokens))
    assert graphed.graphed
    assert not eager.graphed


@pytest.mark.gpu
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.8])
@pytest.mark.parametrize("name", ["mamba", "multiscale"])
def test_a_graph_draws_without_sorting_what_steps_draw(name, temperature):
    model, start = on_gpu(name)
    rule, sampling = StopRule(tokens=(1,), pad=2), SamplingConfig(temperature=temperature, seed=3)
    eager = Decoder(model, start, sampling, rule, graph=False)
    graphed = Decoder(model, start, sampling, rule, graph=True)
    for n_tokens in PIECES:
        assert_same_block(graphed.advance(n_tokens), eager.advance(n_tokens))


@pytest.mark.gpu
@pytest.mark.parametrize("name", STEADY)
def test_a_gpu_draws_what_a_cpu_draws(name):
    """Logits differ by rounding, so that a number at the border of two tokens may fall to the other side."""
    model = language_model(name)
    here = next(generate_blocks(model, begin(model, prompt(3, 8)), block=40, sampling=SAMPLING))
    model.cuda()
    there = next(generate_blocks(model, begin(model, prompt(3, 8)), block=40, sampling=SAMPLING))
    equal = (
        (here.tokens == there.tokens.cpu()).long().cumprod(dim=1)
    )  # one other token changes all that follow
    assert equal.sum() >= 0.6 * equal.numel()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mamba", "multiscale"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_graph_keeps_its_casts_when_autocast_ends(name, dtype):
    model, start = on_gpu(name)
    with torch.autocast("cuda", dtype=dtype):
        eager = Decoder(model, start, SAMPLING, graph=False).advance(36)
    graphed = Decoder(model, start, SAMPLING, graph=True)
    with torch.autocast("cuda", dtype=dtype):
        first = graphed.advance(12)
    garbage = [torch.full((2**16,), torch.nan, device="cuda") for _ in range(100)]  # where freed casts were
    with torch.autocast("cuda", dtype=dtype):
        second = graphed.advance(24)
    assert torch.equal(torch.cat([first.tokens, second.tokens], dim=1), eager.tokens)
    assert len(garbage) == 100
    states = {x.dtype for x in tree_leaves(second.state.model) if isinstance(x, Tensor)}
    assert states <= {torch.float32, torch.complex64, torch.int64}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mamba", "s4", "s4-dplr"])
def test_weights_that_change_between_blocks_are_followed(name):
    """Those that a step reads, and those from which a layer derives something before the first step."""
    model, start = on_gpu(name)
    graphed = Decoder(model, start, SAMPLING, graph=True)
    block = graphed.advance(20)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.8)
    expected = Decoder(model, block.state, SAMPLING, graph=False).advance(20)
    assert_same_block(graphed.advance(20), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", STEADY)
def test_memory_stays_the_same_for_ever(name):
    model, start = on_gpu(name)
    graphed = Decoder(model, start, SAMPLING, graph=True)
    block: Any = graphed.advance(12)
    gc.collect()  # what earlier tests left behind
    memory = set()
    for _ in range(5):
        block = graphed.advance(12)
        memory.add(torch.cuda.memory_allocated())
    assert len(memory) == 1
    assert block.tokens.shape == (3, 12)


@pytest.mark.gpu
def test_the_state_of_a_block_is_not_touched_by_later_replays():
    model, start = on_gpu("multiscale")
    graphed = Decoder(model, start, SAMPLING, graph=True)
    block = graphed.advance(12)
    copy = block.state.clone()
    graphed.advance(24)
    for x, y in zip(tree_leaves(block.state), tree_leaves(copy), strict=True):
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y


@pytest.mark.gpu
@pytest.mark.parametrize("name", GROWING)
def test_a_gpu_refuses_to_graph_a_growing_state(name):
    model, start = on_gpu(name)
    with pytest.raises(UserError, match="a CUDA graph needs a state that keeps its form"):
        Decoder(model, start, SAMPLING, graph=True).advance(3)
    free = Decoder(model, start, SAMPLING)
    assert_same_block(free.advance(9), Decoder(model, start, SAMPLING, graph=False).advance(9))
    assert not free.graphed


@pytest.mark.gpu
def test_steps_that_wait_for_the_gpu_are_refused():
    def waiting(state, x):
        return x * float(x.sum()), state

    with pytest.raises(
        UserError, match=r"these steps cannot be captured .* wait for the GPU at .*test_graphs.py, line"
    ):
        GraphedSteps(waiting, pair("cuda"))(torch.ones(2, 1, device="cuda"))
    assert torch.rand(3, device="cuda").isfinite().all()  # and nothing is broken for those who go on


@pytest.mark.gpu
def test_older_graphs_that_nobody_holds_do_not_spoil_a_capture():
    """A decoder and its graphs refer to each other, so that only the garbage collector frees them."""
    model, start = on_gpu("mamba")
    expected = Decoder(model, start, SAMPLING, graph=False).advance(20)
    for _ in range(3):
        assert_same_block(Decoder(model, start, SAMPLING, graph=True).advance(20), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mamba", "multiscale"])
def test_features_are_stepped_by_a_graph_too(name):
    """A stream of features, a period at a time, as a recording that arrives."""
    backbone = language_model(name).backbone.cuda().eval()
    x, period = torch.randn(2, 24, 8, device="cuda"), step_period(backbone)

    def steps(state, piece):
        made = []
        for step in piece.split(1, dim=1):
            y, state = backbone(step, state=state, return_state=True)
            made.append(y)
        return torch.cat(made, dim=1), state

    graphed = GraphedSteps(steps, backbone.init_state(2))
    pieces = [graphed(piece).clone() for piece in x.split(period, dim=1)]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(pieces, dim=1), backbone(x), atol=1e-4, rtol=1e-4)
    assert not any(
        x.requires_grad for x in tree_leaves(map_state(torch.clone, graphed.state)) if isinstance(x, Tensor)
    )
