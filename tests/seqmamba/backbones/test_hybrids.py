"""Stacks of several kinds of mixers, and attention with one set of weights, in every mode."""

from __future__ import annotations

import copy
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree

import seqmamba
from seqmamba.backbones import Backbone, BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.backbones.config_file import build_config
from seqmamba.errors import UserError
from seqmamba.inference import compare_modes
from seqmamba.nn import AttentionOptions, SharedAttentionBlock, pack, reset_from_lengths, unpack

ZAMBA = ("mamba", "shared_attention", "mamba")
PATTERNS = {
    "jamba": {"mixer": ("mamba", "mamba+mlp", "attention+mlp"), "n_layers": 4},
    "zamba": {"mixer": ZAMBA, "n_layers": 6},
    "recurrent": {"mixer": ("lstm+mlp", "gru", "shared_attention"), "n_layers": 3},
    "layer norms": {"mixer": (*ZAMBA, "attention"), "n_layers": 5, "norm": "layer", "bias": True},
}
WINDOW = AttentionOptions(n_heads=4, n_kv_heads=2, window=7)
each_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
each_direction = pytest.mark.parametrize("direction", ["causal", "bidirectional"])
each_attention = pytest.mark.parametrize(
    "attention", [AttentionOptions(n_heads=4), WINDOW], ids=["all positions", "window"]
)


def make(pattern, **options):
    torch.manual_seed(0)
    options = {"attention": AttentionOptions(n_heads=4), **pattern, **options}
    backbone = Backbone(BackboneConfig(d_model=16, d_state=4, **options))
    with torch.no_grad():  # a state that lasts and strong branches, so that a leak cannot hide in rounding
        for name, parameter in backbone.named_parameters():
            if name.endswith("A_log"):
                parameter.sub_(3)
            if name.endswith("out_proj.weight"):
                parameter.mul_(3)
    return backbone


def features(length=29, batch=2, seed=1):
    return torch.randn(batch, length, 16, generator=torch.Generator().manual_seed(seed))


def gradients(backbone, call, x, weights):
    leaf = x.clone().requires_grad_()
    y = call(leaf)
    return [y, *torch.autograd.grad((y * weights).sum(), [leaf, *backbone.parameters()])]


@each_attention
@each_pattern
def test_whole_chunks_and_steps_agree(pattern, attention):
    report = compare_modes(make(pattern, attention=attention), features(), [1, 2, 11])
    assert report.worst <= 1e-5
    assert report.scale > 1


@each_attention
@each_pattern
@each_direction
def test_packed_sequences_equal_separate_ones(pattern, attention, direction):
    backbone = make(pattern, attention=attention, direction=direction)
    sequences = list(features(sum((1, 13, 2, 20)), batch=1)[0].split((1, 13, 2, 20)))
    packed, reset = pack(sequences)
    outputs = unpack(backbone(packed, reset=reset), [len(s) for s in sequences])
    for output, sequence in zip(outputs, sequences, strict=True):
        torch.testing.assert_close(output[None], backbone(sequence[None]), atol=1e-5, rtol=0)
    assert (backbone(packed) - torch.cat(outputs)).abs().max() > 1e-2  # without a reset it shows


@each_pattern
@each_direction
def test_right_padding_never_matters(pattern, direction):
    backbone, x, lengths = make(pattern, direction=direction), features(), torch.tensor([12, 29])
    x[0, 12:] *= 100
    padded = backbone(x, reset=reset_from_lengths(lengths, 29))
    torch.testing.assert_close(padded[:1, :12], backbone(x[:1, :12]), atol=1e-5, rtol=0)
    torch.testing.assert_close(padded[1:], backbone(x[1:]), atol=1e-5, rtol=0)


@each_attention
@each_pattern
@pytest.mark.parametrize("cuts", [[5, 6, 20], range(1, 29)], ids=str)
def test_packed_chunks_equal_the_packed_whole(pattern, attention, cuts):
    backbone, x = make(pattern, attention=attention), features()
    reset = torch.zeros(2, 29, dtype=torch.bool)
    reset[0, [5, 6, 22]] = reset[1, 14] = True
    state, outputs = None, []
    for left, right in pairwise([0, *cuts, 29]):
        part = reset[:, left:right]
        y, state = backbone(x[:, left:right], reset=part, state=state, return_state=True)
        outputs.append(y)
    whole = backbone(x, reset=reset)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-5, rtol=0)


@each_pattern
@each_direction
def test_checkpointing_changes_nothing(pattern, direction):
    x, weights = features(), features(seed=2)
    results = []
    for checkpointed in (False, True):
        backbone = make(pattern, direction=direction, checkpoint_activations=checkpointed)
        results.append(gradients(backbone, backbone, x, weights))
    torch.testing.assert_close(*results)


@each_pattern
@each_direction
def test_gradients_reach_every_parameter_and_every_position(pattern, direction):
    backbone, x, weights = make(pattern, direction=direction), features(), features(seed=2)
    _, *found = gradients(backbone, backbone, x, weights)
    assert all(gradient.abs().sum() > 0 for gradient in found)
    leaf = x.clone().requires_grad_()
    (reached,) = torch.autograd.grad((backbone(leaf) * weights)[0, 10].sum(), leaf)
    seen = reached[0].abs().sum(-1) > 0
    assert seen.tolist() == [direction == "bidirectional" or t <= 10 for t in range(29)]


@pytest.mark.parametrize(
    ("mixer", "direction"),
    [("attention+mlp", "causal"), ("shared_attention", "bidirectional")],
)
def test_compiles_as_one_graph_for_every_length(mixer, direction):
    backbone = make({"mixer": mixer, "n_layers": 1}, direction=direction)
    torch.compiler.reset()
    compiled = torch.compile(backbone, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (13, 29, 2):
            x, weights = features(length), features(length, seed=2)
            reset = reset_from_lengths(torch.tensor([length, length // 2]), length)
            actual = gradients(backbone, lambda x, reset=reset: compiled(x, reset=reset), x, weights)
            expected = gradients(backbone, lambda x, reset=reset: backbone(x, reset=reset), x, weights)
            torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    torch.compiler.reset()


def test_compiles_with_checkpoints_and_a_carried_state():
    pattern = {"mixer": ("shared_attention", "mamba"), "n_layers": 3}
    backbone = make(pattern, checkpoint_activations=True)

    def two_chunks(x):
        first, state = backbone(x[:, :9], return_state=True)
        return torch.cat((first, backbone(x[:, 9:], state=state)), dim=1)

    torch.compiler.reset()
    x, weights = features(), features(seed=2)
    compiled = torch.compile(two_chunks, backend="aot_eager", fullgraph=True)
    actual = gradients(backbone, compiled, x, weights)
    expected = gradients(backbone, two_chunks, x, weights)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    torch.compiler.reset()


@each_pattern
@each_direction
def test_autocast_is_close_and_states_stay_wide(pattern, direction):
    backbone, x = make(pattern, direction=direction), features()
    expected = backbone(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = backbone(x)
        if direction == "causal":
            _, state = backbone(x, return_state=True)
            _, state = backbone(x[:, :1], state=state, return_state=True)
            tensors = [t for t in _pytree.tree_leaves(state) if isinstance(t, Tensor)]
            assert {t.dtype for t in tensors} <= {torch.float32, torch.int64}
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, expected, atol=0.15, rtol=0)


@each_pattern
def test_a_narrow_model_and_a_wide_one(pattern):
    for dtype in (torch.bfloat16, torch.float64):
        backbone = make(pattern).to(dtype)
        y, state = backbone(features().to(dtype), state=backbone.init_state(2), return_state=True)
        assert y.dtype == dtype
        assert backbone(features(1).to(dtype), state=state).isfinite().all()


@each_attention
@each_pattern
def test_rows_of_a_state_go_on_alone(pattern, attention):
    backbone, x = make(pattern, attention=attention), features(batch=3)
    _, state = backbone(x[:, :20], return_state=True)
    alone = backbone(x[[2, 0], 20:], state=state.select(torch.tensor([2, 0])))
    torch.testing.assert_close(alone, backbone(x)[[2, 0], 20:], atol=1e-5, rtol=0)
    assert not any(t.requires_grad for t in _pytree.tree_leaves(state.detach()) if isinstance(t, Tensor))


def test_dropout_reaches_the_shared_branch_in_training_only():
    backbone, x = make(PATTERNS["zamba"], dropout=0.5), features()
    place, shared = backbone.layers[1], backbone.shared_attention
    first, second = (place(x, shared=shared, stack_input=x)[0] for _ in range(2))
    assert not torch.equal(first, second)
    backbone.eval()
    assert torch.equal(backbone(x), backbone(x))


def test_a_language_model_over_a_hybrid_generates_what_it_scores():
    torch.manual_seed(0)
    config = BackboneConfig(16, 3, mixer=ZAMBA, d_state=4, attention=WINDOW)
    model = LanguageModel(LanguageModelConfig(config, vocab_size=11)).double()
    tokens = torch.randint(11, (2, 15))
    state, logits = model.init_state(2), []
    for t in range(15):
        y, state = model(tokens[:, t : t + 1], state=state, return_state=True)
        logits.append(y)
    torch.testing.assert_close(torch.cat(logits, dim=1), model(tokens))


# Attention with shared weights


def test_a_place_adds_its_projection_of_the_shared_layers():
    backbone, x, start = make(PATTERNS["zamba"]), features(), features(seed=2)
    place, shared = backbone.layers[1], backbone.shared_attention
    both = torch.cat((x, start), dim=-1)
    y = shared.mlp(shared.norm2(shared.mixer(shared.norm(both))[0]))
    torch.testing.assert_close(place(x, shared=shared, stack_input=start)[0], x + place.out_proj(y))


def test_every_place_sees_the_stacks_input():
    backbone = make(PATTERNS["zamba"])
    seen = []
    backbone.shared_attention.register_forward_hook(lambda _, inputs, __: seen.append(inputs))
    x = features()
    backbone(x)
    assert len(seen) == 2
    assert all(torch.equal(stack_input, x) for _, stack_input in seen)
    assert not torch.equal(seen[0][0], seen[1][0])


def test_shared_weights_are_one_set_wherever_one_looks(tmp_path):
    backbone = make(PATTERNS["zamba"])
    shared = {n: p for n, p in backbone.named_parameters(remove_duplicate=False) if "shared" in n}
    assert set(shared) == {
        f"shared_attention.{name}"
        for name in (
            "norm.weight",
            "mixer.in_proj.weight",
            "mixer.out_proj.weight",
            "norm2.weight",
            "mlp.fc1.weight",
            "mlp.fc2.weight",
        )
    }
    places = [layer for layer in backbone.layers if isinstance(layer, SharedAttentionBlock)]
    assert len(places) == 2
    assert all({name for name, _ in place.named_parameters()} == {"out_proj.weight"} for place in places)
    backbone.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(backbone.state_dict())
    for restored in (seqmamba.from_pretrained(tmp_path), copy.deepcopy(backbone)):
        assert torch.equal(restored(features()), backbone(features()))
        with torch.no_grad():  # still one set: a change shows at both places
            restored.shared_attention.mlp.fc2.weight.zero_()
        silent = make({"mixer": ZAMBA, "n_layers": 6})
        silent.load_state_dict(backbone.state_dict())
        for index in (1, 4):
            nn.init.zeros_(silent.layers[index].out_proj.weight)
        assert torch.equal(restored(features()), silent(features()))


def test_gradients_of_shared_weights_are_sums_over_the_places():
    backbone, x, weights = make(PATTERNS["zamba"]).double(), features().double(), features(seed=2).double()
    (backbone(x) * weights).sum().backward()
    copies = {index: copy.deepcopy(backbone.shared_attention) for index in (1, 4)}
    hidden = x
    for index, layer in enumerate(backbone.layers):
        given = {"shared": copies[index], "stack_input": x} if index in copies else {}
        hidden, _ = layer(hidden, **given)
    for separate in copies.values():
        separate.zero_grad()
    (backbone.norm_f(hidden) * weights).sum().backward()
    for name, parameter in backbone.shared_attention.named_parameters():
        parts = [separate.get_parameter(name).grad for separate in copies.values()]
        assert all(part.abs().sum() > 0 for part in parts)
        torch.testing.assert_close(parameter.grad, sum(parts))


def test_every_place_has_a_cache_of_its_own():
    backbone = make(PATTERNS["zamba"])
    _, state = backbone(features(), return_state=True)
    first, second = state.layers[1], state.layers[4]
    assert first.keys.shape == second.keys.shape == (2, 29, 4, 8)
    assert not torch.allclose(first.keys, second.keys)


def test_a_stack_without_places_holds_no_shared_layers():
    assert make({"mixer": ZAMBA, "n_layers": 1}).shared_attention is None


def test_projections_into_the_residual_stream_are_scaled_by_the_branches():
    torch.manual_seed(0)
    attention = AttentionOptions(n_heads=4)
    mixer = ("attention+mlp", "lstm", "shared_attention", "gru+mlp")
    backbone = Backbone(BackboneConfig(256, 8, mixer=mixer, expand=1, mlp_ratio=1, attention=attention))
    into_the_stream = [
        weight
        for name, weight in backbone.layers.named_parameters()
        if name.endswith(("out_proj.weight", "fc2.weight"))
    ]
    assert len(into_the_stream) == 12
    for weight in into_the_stream:  # uniform with this bound unless scaled
        assert weight.abs().max().item() == pytest.approx(256**-0.5 / 12**0.5, rel=1e-2)


def test_parameters_without_weight_decay():
    backbone = make(PATTERNS["layer norms"] | {"mixer": ("lstm", "gru", "attention+mlp", "shared_attention")})
    decayed = {
        name
        for name, parameter in backbone.named_parameters()
        if parameter.ndim > 1 and not hasattr(parameter, "_no_weight_decay")
    }
    matrices = ("_proj.weight", "fc1.weight", "fc2.weight", "weight_ih_l0", "weight_hh_l0")
    assert decayed == {name for name, _ in backbone.named_parameters() if name.endswith(matrices)}


def test_norm_and_bias_reach_the_shared_layers():
    shared = make(PATTERNS["layer norms"]).shared_attention
    assert type(shared.norm).__name__ == type(shared.norm2).__name__ == "LayerNorm"
    assert {name for name, _ in shared.named_parameters() if name.endswith("bias")} == {
        "norm.bias",
        "norm2.bias",
        "mixer.in_proj.bias",
        "mixer.out_proj.bias",
        "mlp.fc1.bias",
        "mlp.fc2.bias",
    }


def test_distributed_training_finds_no_unused_and_no_twice_ready_parameter(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        for checkpointed in (False, True):
            backbone = make(PATTERNS["zamba"], checkpoint_activations=checkpointed)
            expected = gradients(backbone, backbone, features(), features(seed=2))[2:]
            replica = DistributedDataParallel(backbone, static_graph=checkpointed)
            (replica(features()) * features(seed=2)).sum().backward()
            torch.testing.assert_close([p.grad for p in backbone.parameters()], expected)
    finally:
        dist.destroy_process_group()


def test_hybrid_options_survive_json():
    config = BackboneConfig(16, 3, mixer=ZAMBA, attention=WINDOW)
    assert build_config(BackboneConfig, asdict(config), "config.json") == config


@pytest.mark.parametrize("mixer", ["shared_attention+mlp", ("mamba", "shared"), ("attention+mlp+mlp",)])
def test_a_wrong_name_in_a_pattern_is_refused(mixer):
    with pytest.raises(UserError, match=r"mixer: expected .*attention.* and shared_attention, got"):
        BackboneConfig(16, 3, mixer=mixer)


@pytest.mark.gpu
@each_attention
@each_pattern
@each_direction
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gpu_agrees_with_the_cpu_under_autocast_and_without(pattern, attention, direction, checkpointed):
    options = {"attention": attention, "direction": direction, "checkpoint_activations": checkpointed}
    backbone, x, weights = make(pattern, **options), features(), features(seed=2)
    reset = reset_from_lengths(torch.tensor([29, 12]), 29)
    expected = gradients(backbone, lambda x: backbone(x, reset=reset), x, weights)
    backbone, x, weights, reset = backbone.cuda(), x.cuda(), weights.cuda(), reset.cuda()
    for autocast, tolerance in ((False, 5e-3), (True, 0.1)):

        def run(x, autocast=autocast):
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
                return backbone(x, reset=reset)

        for one, other in zip(gradients(backbone, run, x, weights), expected, strict=True):
            error = (one.cpu() - other).abs().max() / other.abs().max()
            assert error <= tolerance


@pytest.mark.gpu
@each_attention
@each_pattern
def test_gpu_modes_agree(pattern, attention):
    torch.backends.cudnn.allow_tf32, before = False, torch.backends.cudnn.allow_tf32
    try:
        report = compare_modes(make(pattern, attention=attention).cuda(), features().cuda(), [1, 2, 11])
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert report.worst <= 1e-4


def test_the_state_of_another_kind_of_layer_is_refused():
    hybrid = Backbone(BackboneConfig(16, 2, mixer=("mamba", "gru")))
    turned = Backbone(BackboneConfig(16, 2, mixer=("gru", "mamba")))
    with pytest.raises(UserError, match="state: expected a MambaState for Mamba, got GRUState"):
        hybrid(torch.randn(1, 3, 16), state=turned.init_state(1))
