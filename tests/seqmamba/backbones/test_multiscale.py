from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_leaves

import seqmamba
from seqmamba.backbones import (
    Backbone,
    BackboneConfig,
    BackboneState,
    MultiScaleBackbone,
    MultiScaleConfig,
    StageState,
)
from seqmamba.errors import UserError
from seqmamba.inference import compare_modes, run_chunked
from seqmamba.nn import Block, pack, reset_from_lengths, unpack

POOL = (3, 2)
PERIOD = 6
CAUSAL = [{"sides": "up"}, {"sides": "both"}, {"inner_mixers": ("mamba", ("mamba+mlp",)), "pool": (2, 4)}]
KINDS = [*CAUSAL, {"direction": "bidirectional"}, {"direction": "bidirectional", "sides": "both"}]
MINE = {"pool", "widen", "inner_layers", "inner_mixers", "sides"}


def name(kind):
    return "-".join(map(str, kind.values()))


each_causal = pytest.mark.parametrize("kind", CAUSAL, ids=name)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=name)


def config(n_layers=1, **options):
    own = {"pool": POOL, **{key: value for key, value in options.items() if key in MINE}}
    outer = {key: value for key, value in options.items() if key not in MINE}
    return MultiScaleConfig(BackboneConfig(8, n_layers, d_state=4, **outer), **own)


def make(**options):
    """A backbone whose states live long and whose branches are strong, so that no leak hides in rounding."""
    torch.manual_seed(0)
    backbone = MultiScaleBackbone(config(**options))
    with torch.no_grad():
        for key, parameter in backbone.named_parameters():
            if key.endswith("A_log"):
                parameter.sub_(3)
            if key.endswith("out_proj.weight"):
                parameter.mul_(3)
    return backbone


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def assert_close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


# The function


@pytest.mark.parametrize("sides", ["up", "both"])
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_it_is_the_papers_stack(sides, direction):
    backbone = make(pool=(3,), sides=sides, direction=direction).double()
    x = randn(2, 12, 8)

    def blocks(stack, hidden):
        for layer in stack.layers:
            hidden, _ = layer(hidden)
        return hidden

    skip = blocks(backbone.down[0], x) if sides == "both" else x
    frames = backbone.down_pools[0].linear(skip.reshape(2, 4, 24))
    frames = backbone.up_pools[0].linear(blocks(backbone.centre, frames))
    if direction == "causal":
        frames = torch.cat((torch.zeros(2, 1, 24), frames[:, :-1]), dim=1)
    y = backbone.norm_f(blocks(backbone.up[0], skip + frames.reshape(2, 12, 8)))
    assert_close(backbone(x), y)


@each_causal
def test_it_sees_all_of_the_past_and_nothing_else(kind):
    backbone = make(**kind).double()
    x = randn(1, 20, 8).requires_grad_()
    y = backbone(x)
    for t in range(20):
        (gradient,) = torch.autograd.grad(y[0, t, 0], x, retain_graph=True)
        reach = gradient[0].abs().amax(dim=1)
        assert reach[t + 1 :].eq(0).all()
        assert reach[: t + 1].gt(0).all()


def test_the_coarse_stages_see_the_complete_frames():
    """With the outermost blocks silent, the rest of the past is seen through the frames alone."""
    backbone = make(pool=(3,)).double()
    with torch.no_grad():
        for key, parameter in backbone.up.named_parameters():
            if key.endswith("out_proj.weight"):
                parameter.zero_()
    x = randn(1, 14, 8).requires_grad_()
    y = backbone(x)
    for t in range(14):
        (gradient,) = torch.autograd.grad(y[0, t, 0], x, retain_graph=True)
        seen = gradient[0].abs().amax(dim=1).gt(0).nonzero().flatten().tolist()
        assert seen == [*range(t - t % 3), t]


@pytest.mark.parametrize("sides", ["up", "both"])
def test_bidirectional_sees_everything(sides):
    backbone = make(direction="bidirectional", sides=sides).double()
    x = randn(1, 17, 8).requires_grad_()
    for t in (0, 7, 16):
        (gradient,) = torch.autograd.grad(backbone(x)[0, t, 0], x)
        assert gradient[0].abs().amax(dim=1).gt(0).all()


# The modes


@each_causal
@pytest.mark.parametrize("length", [2, 3, 5, 6, 7, 11, 12, 25])
def test_whole_chunked_and_stepwise_agree(kind, length):
    assert compare_modes(make(**kind), randn(2, length, 8).float()).worst <= 1e-5
    assert compare_modes(make(**kind).double(), randn(2, length, 8)).worst <= 1e-12


def test_any_single_cut():
    backbone = make(sides="both").double()
    x = randn(2, 2 * PERIOD + 3, 8)
    whole = backbone(x)
    for cut in range(1, x.shape[1]):
        assert_close(run_chunked(backbone, x, [cut]), whole)


@pytest.mark.parametrize("cuts", [[1, 2, 3, 4], [6, 12, 18], [5, 11, 12, 13, 24], [20, 21], [2, 9, 16, 23]])
def test_many_cuts(cuts):
    backbone = make().double()
    x = randn(2, 26, 8)
    assert_close(run_chunked(backbone, x, cuts), backbone(x))


@each_causal
def test_gradients_through_a_carried_state_are_those_of_the_whole(kind):
    backbone = make(**kind).double()
    x = randn(2, 17, 8).requires_grad_()
    weights = randn(2, 17, 8).flip(1)
    parameters = [x, *backbone.parameters()]
    whole = torch.autograd.grad((backbone(x) * weights).sum(), parameters)
    outputs, state = [], None
    for chunk in x.split((4, 1, 7, 5), dim=1):
        y, state = backbone(chunk, state=state, return_state=True)
        outputs.append(y)
    chunked = torch.autograd.grad((torch.cat(outputs, dim=1) * weights).sum(), parameters)
    for actual, expected in zip(chunked, whole, strict=True):
        assert_close(actual, expected, 1e-10)
    assert state.layers[0].held.requires_grad
    assert not any(
        leaf.requires_grad for leaf in tree_leaves(state.detach()) if isinstance(leaf, torch.Tensor)
    )


def test_the_final_state_is_that_of_the_steps():
    backbone = make(sides="both").double()
    x = randn(2, 16, 8)
    _, expected = backbone(x, return_state=True)
    state = backbone.init_state(2)
    for step in x.split(1, dim=1):
        _, state = backbone(step, state=state, return_state=True)
    torch.testing.assert_close(state, expected)


def test_dropped_states_would_show():
    backbone = make().double()
    x = randn(2, 24, 8)
    whole = backbone(x)
    _, state = backbone(x[:, :8], return_state=True)
    fresh = backbone.init_state(2).layers[0]
    for field in ("window", "held", "up"):
        forgetful = BackboneState(
            (state.layers[0]._replace(**{field: getattr(fresh, field)}), *state.layers[1:])
        )
        assert (backbone(x[:, 8:], state=forgetful) - whole[:, 8:]).abs().max() > 1e-3


# The state


def phases(state):
    return [stage.phase for stage in state.layers[:-1]]


def test_the_phases_count_and_come_round_after_a_period():
    backbone = make()
    assert backbone.step_period == PERIOD
    state, seen = backbone.init_state(1), []
    for step in randn(1, 2 * PERIOD, 8).float().split(1, dim=1):
        seen.append(phases(state))
        _, state = backbone(step, state=state, return_state=True)
    assert seen[:PERIOD] == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]
    assert seen[PERIOD:] == seen[:PERIOD]
    assert all(type(phase) is int for phase in phases(state))


@each_causal
def test_stages_run_only_when_a_frame_is_complete(kind):
    backbone = make(n_layers=2, **kind)
    period, runs = backbone.step_period, [0]

    def count(*_):
        runs[0] += 1

    for module in backbone.modules():
        if isinstance(module, Block):
            module.register_forward_hook(count)
    state = backbone.init_state(1)
    for step in randn(1, 2 * period, 8).float().split(1, dim=1):
        _, state = backbone(step, state=state, return_state=True)
    assert runs[0] == backbone.config.blocks_per_position * 2 * period


def test_memory_is_constant():
    backbone = make()
    state, sizes = backbone.init_state(2), set()
    for length in (1, 1, 1, 5, 100, 1000):
        _, state = backbone(randn(2, length, 8).float(), state=state, return_state=True)
        leaves = [leaf for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor)]
        assert all(leaf.dtype == torch.float32 for leaf in leaves)
        sizes.add(tuple(leaf.shape for leaf in leaves))
        for stage in state.layers[:-1]:
            for kept in (stage.window, stage.held):
                assert kept.untyped_storage().nbytes() == kept.numel() * 4
    assert len(sizes) == 1


def test_sequences_of_the_batch_can_be_selected_on_the_way():
    backbone = make().double()
    x = randn(3, 16, 8)
    _, state = backbone(x[:, :7], return_state=True)
    rows = torch.tensor([2, 0])
    y = backbone(x[rows, 7:], state=state.select(rows))
    assert_close(y, backbone(x)[rows, 7:])


def test_the_state_is_a_tree_of_named_tuples():
    state = make(sides="both").init_state(2)
    assert isinstance(state, BackboneState)
    assert [type(layer) for layer in state.layers] == [StageState, StageState, BackboneState]
    assert state.layers[1].window.shape == (2, 1, 16)
    assert state.layers[1].held.shape == (2, 2, 16)


# Packed and padded sequences


@each_kind
def test_packed_sequences_equal_separate_ones(kind):
    backbone = make(**kind).double()
    sequences = [randn(length, 8).requires_grad_() for length in (1, 13, 2, 6, 31, 3, 12, 5)]
    leaves = [*sequences, *backbone.parameters()]
    weights = [randn(*s.shape).flip(0) for s in sequences]
    packed, reset = pack(sequences)
    outputs = unpack(backbone(packed, reset=reset), [len(s) for s in sequences])
    separate = [backbone(s[None])[0] for s in sequences]
    for output, expected in zip(outputs, separate, strict=True):
        assert_close(output, expected)
    gradients = [
        torch.autograd.grad(sum((y * w).sum() for y, w in zip(ys, weights, strict=True)), leaves)
        for ys in (outputs, separate)
    ]
    for actual, expected in zip(*gradients, strict=True):
        assert_close(actual, expected, 1e-10)


@each_kind
def test_packing_without_a_reset_would_show(kind):
    backbone = make(**kind).double()
    first, second = randn(12, 8), randn(9, 8)
    packed, _ = pack([first, second])
    gap = backbone(packed)[0] - torch.cat([backbone(first[None])[0], backbone(second[None])[0]])
    assert gap.abs().max() > 1e-2


@each_kind
def test_right_padding_never_matters(kind):
    backbone = make(**kind).double()
    lengths = torch.tensor([1, 17, 30, 29, 12])
    x = randn(5, 30, 8)
    for row, length in enumerate(lengths):
        x[row, length:] *= 100  # whatever the padding holds
    x.requires_grad_()
    padded = backbone(x, reset=reset_from_lengths(lengths, 30))
    for row, length in enumerate(lengths):
        assert_close(padded[row, :length], backbone(x[row : row + 1, :length])[0])
    real = [padded[row, :length, 0].sum() for row, length in enumerate(lengths)]
    (gradient,) = torch.autograd.grad(sum(real), x)
    for row, length in enumerate(lengths):
        assert gradient[row, length:].eq(0).all()


def test_a_reset_at_the_start_changes_nothing():
    backbone = make().double()
    x = randn(2, 13, 8)
    reset = torch.zeros(2, 13, dtype=torch.bool)
    reset[0, 0] = True
    assert_close(backbone(x, reset=reset), backbone(x))


# As a module


@each_kind
@pytest.mark.parametrize("length", [1, 2, 19])
def test_gradients_reach_every_parameter(kind, length):
    """At any length every parameter has a gradient, which data-parallel training waits for."""
    backbone = make(**kind)
    x = randn(2, length, 8).float().requires_grad_()
    (backbone(x) * randn(2, length, 8).flip(0)).sum().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad.isfinite().all(), key
        assert length < 19 or parameter.grad.abs().sum() > 0, key


@each_kind
def test_checkpointing_changes_nothing(kind):
    gradients = []
    for checkpointed in (False, True):
        backbone = make(checkpoint_activations=checkpointed, dropout=0.3, **kind)
        torch.manual_seed(1)
        backbone(randn(2, 15, 8).float())[..., 0].sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    torch.testing.assert_close(*gradients)


def test_dropout_only_in_training():
    backbone = make(dropout=0.5)
    x = randn(1, 9, 8).float()
    assert not torch.equal(backbone(x), backbone(x))
    backbone.eval()
    assert torch.equal(backbone(x), backbone(x))


def test_the_norm_is_the_chosen_one():
    assert type(make(norm="layer").norm_f) is seqmamba.nn.LayerNorm


@each_kind
def test_bfloat16_autocast_keeps_parameters_states_and_residuals_in_float32(kind):
    backbone = make(**kind)
    seen = []
    for module in backbone.modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda _, i, o: seen.extend((i[0].dtype, o[0].dtype)))
    x = randn(2, 25, 8).float()
    exact = backbone(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = backbone(x)
        if "direction" not in kind:
            first, state = backbone(x[:, :10], return_state=True)
            second, state = backbone(x[:, 10:], state=state, return_state=True)
            # bf16 products may round differently at other sizes
            torch.testing.assert_close(torch.cat((first, second), dim=1), y, atol=0.15, rtol=0)
            assert {t.dtype for t in tree_leaves(state) if isinstance(t, torch.Tensor)} == {torch.float32}
    assert set(seen) == {torch.float32}
    assert y.dtype == torch.float32
    assert 0 < (y - exact).abs().max() < 0.3  # bf16 has been used, and only bf16 rounding is left
    y[..., 0].sum().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in backbone.parameters())


def test_narrow_input_and_narrow_model():
    x = randn(1, 8, 8)
    assert make()(x.bfloat16()).dtype == torch.float32
    narrow = make().bfloat16()
    y, state = narrow(x.float(), return_state=True)
    assert y.dtype == torch.bfloat16
    assert state.layers[0].window.dtype == state.layers[0].held.dtype == torch.float32


@pytest.fixture
def _nothing_compiled():
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.usefixtures("_nothing_compiled")
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
@pytest.mark.parametrize(
    ("dynamic", "lengths"),
    [(False, (33,)), pytest.param(True, (33, 40, 63, 18, 48), marks=pytest.mark.slow)],
)
def test_compiles_as_one_graph(direction, dynamic, lengths):
    """With dynamic shapes as two: one for lengths that are multiples of the period, one for all others."""
    backbone = make(direction=direction)
    compiled = torch.compile(backbone, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for length in lengths:
        x = randn(2, length, 8).float()
        gradients = []
        for call in (backbone, compiled):
            backbone.zero_grad()
            y = call(x)
            y[..., 0].sum().backward()
            gradients.append([y.detach(), *(p.grad.clone() for p in backbone.parameters())])
        torch.testing.assert_close(*gradients)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1 + dynamic


@pytest.mark.usefixtures("_nothing_compiled")
def test_steps_compile_for_each_phase():
    backbone = make(pool=(2,))
    compiled = torch.compile(backbone, backend="aot_eager", fullgraph=True, dynamic=False)
    x = randn(2, 12, 8).float()
    state, outputs, graphs = backbone.init_state(2), [], []
    with torch.no_grad():
        for step in x.split(1, dim=1):
            y, state = compiled(step, state=state, return_state=True)
            outputs.append(y)
            graphs.append(counters["stats"]["unique_graphs"])
    assert_close(torch.cat(outputs, dim=1), backbone(x), 1e-5)
    assert graphs[5] == graphs[-1]  # nothing is compiled once all phases have come


def test_saved_and_loaded(tmp_path):
    backbone = make(sides="both", inner_layers=(1, 2), inner_mixers=("mamba", ("mamba+mlp",))).eval()
    backbone.save_pretrained(tmp_path)
    loaded = seqmamba.from_pretrained(tmp_path)
    assert type(loaded) is MultiScaleBackbone
    assert loaded.config == backbone.config
    assert hash(loaded.config) == hash(backbone.config)
    x = randn(1, 9, 8).float()
    assert torch.equal(loaded(x), backbone(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b(torch.randn(5, 8)), r"x: expected floating \(batch, length >= 1, 8\), got .* \(5, 8\)"),
        (lambda b: b(torch.randn(1, 0, 8)), r"x: expected .*\(1, 0, 8\)"),
        (lambda b: b(torch.randn(1, 5, 8), reset=torch.zeros(1, 4).bool()), r"reset: .*\(1, 4\)"),
        (
            lambda b: b(torch.randn(1, 5, 8), reset=torch.zeros(1, 5).bool(), return_state=True),
            "reset: expected null where a state is given or asked for",
        ),
        (
            lambda b: b(torch.randn(1, 5, 8), state=Backbone(BackboneConfig(8, 3)).init_state(1)),
            "state: expected the 3 stages of this backbone, got MambaState, MambaState, MambaState",
        ),
        (
            lambda b: b(torch.randn(1, 5, 8), state=make(pool=(2,)).init_state(1)),
            "state: expected the 3 stages of this backbone, got StageState, BackboneState",
        ),
        (lambda b: b(torch.randn(1, 5, 8), state=b.init_state(2)), "state: expected a batch of 1, got 2"),
        (lambda b: b(torch.randn(1, 5, 8), rate=-2.0), "rate: expected a positive number"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call(make())


def test_bidirectional_refuses_a_state():
    backbone = make(direction="bidirectional")
    for attempt in (
        lambda: backbone.init_state(1),
        lambda: backbone(torch.randn(1, 4, 8), return_state=True),
        lambda: backbone(torch.randn(1, 4, 8), state=make().init_state(1)),
    ):
        with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
            attempt()


# As a language model over samples


def test_language_model_over_stages(tmp_path):
    torch.manual_seed(0)
    settings = seqmamba.backbones.LanguageModelConfig(config(sides="both"), vocab_size=256)
    model = seqmamba.backbones.LanguageModel(settings).eval()
    assert isinstance(model.backbone, MultiScaleBackbone)
    tokens = torch.randint(0, 256, (2, 15))
    whole = model(tokens)
    assert whole.shape == (2, 15, 256)
    logits, state = [], model.init_state(2)
    for token in tokens.split(1, dim=1):
        y, state = model(token, state=state, return_state=True)
        logits.append(y)
    assert_close(torch.cat(logits, dim=1), whole, 1e-5)
    nn.functional.cross_entropy(whole.flatten(0, 1), tokens.flatten()).backward()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["backbone"]["pool"] == [3, 2]
    loaded = seqmamba.from_pretrained(tmp_path)
    assert loaded.config == settings
    assert torch.equal(loaded(tokens), whole)


def test_an_equal_isotropic_config_still_builds_a_backbone(tmp_path):
    settings = seqmamba.backbones.LanguageModelConfig(BackboneConfig(8, 1), vocab_size=5)
    seqmamba.backbones.LanguageModel(settings).save_pretrained(tmp_path)
    loaded = seqmamba.from_pretrained(tmp_path)
    assert type(loaded.backbone) is Backbone
    assert replace(loaded.config) == settings
    assert asdict(loaded.config.backbone) == asdict(settings.backbone)
