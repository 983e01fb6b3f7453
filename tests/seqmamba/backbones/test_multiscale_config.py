from __future__ import annotations

from dataclasses import asdict

import pytest

from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.backbones.config_file import build_config
from seqmamba.errors import UserError
from seqmamba.nn import GridOptions, S4Options

OUTER = BackboneConfig(64, 8, mixer="s4+mlp", norm="layer", dropout=0.1)


def test_every_stage_derives_from_the_outermost():
    config = MultiScaleConfig(
        OUTER, pool=(4, 2), widen=3, inner_layers=(6, 4), inner_mixers=("s4", ("mamba", "attention+mlp"))
    )
    assert config.stage(0) is OUTER
    stages = [config.stage(index) for index in range(config.n_stages)]
    assert [stage.d_model for stage in stages] == [64, 192, 576]
    assert [stage.n_layers for stage in stages] == [8, 6, 4]
    assert [stage.pattern for stage in stages] == [("s4+mlp",), ("s4",), ("mamba", "attention+mlp")]
    assert {(stage.norm, stage.dropout) for stage in stages} == {("layer", 0.1)}
    assert (config.d_model, config.direction, config.period) == (64, "causal", 8)


def test_inner_stages_are_like_the_outermost_unless_told():
    config = MultiScaleConfig(OUTER)
    assert [config.stage(index).d_model for index in range(3)] == [64, 128, 256]
    assert {config.stage(index).pattern for index in range(3)} == {("s4+mlp",)}
    assert {config.stage(index).n_layers for index in range(3)} == {8}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 8 + 8 / 4 + 8 / 16),
        ({"sides": "both"}, 16 + 16 / 4 + 8 / 16),
        ({"sides": "both", "pool": (16, 8), "inner_layers": (4, 2)}, 16 + 8 / 16 + 2 / 128),
        ({"pool": (2,)}, 8 + 8 / 2),
    ],
)
def test_blocks_for_one_position(options, expected):
    assert MultiScaleConfig(OUTER, **options).blocks_per_position == pytest.approx(expected)


def test_from_and_to_json():
    config = MultiScaleConfig(OUTER, inner_layers=(2, 3), inner_mixers=("s4", ("mamba", "attention")))
    content = asdict(config)
    content.update(pool=[4, 4], inner_layers=[2, 3], inner_mixers=["s4", ["mamba", "attention"]])
    read = build_config(MultiScaleConfig, content, "config.json")
    assert read == config
    assert hash(read) == hash(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outer": 64}, "outer: expected a BackboneConfig, got 64"),
        ({"pool": ()}, r"pool: expected one whole number >= 2 or more, got \(\)"),
        ({"pool": 4}, "pool: .*got 4"),
        ({"pool": (4, 1)}, r"pool: .*got \(4, 1\)"),
        ({"pool": (4, 2.0)}, r"pool: .*got \(4, 2.0\)"),
        ({"widen": 0}, "widen: expected a whole number >= 1, got 0"),
        ({"sides": "down"}, "sides: expected one of up, both, got 'down'"),
        (
            {"inner_layers": (8,)},
            r"inner_layers: expected null or 2 entries, as many as pool has, got \(8,\)",
        ),
        ({"inner_mixers": "mamba"}, "inner_mixers: expected null or 2 entries, .*got 'mamba'"),
        ({"inner_mixers": ("mamba", 3)}, "stage 2: mixer: expected a name or a pattern"),
        ({"inner_mixers": ("mamba", "rwkv")}, "stage 2: mixer: expected a name or a pattern.*got 'rwkv'"),
        ({"inner_layers": (8, 0)}, "stage 2: n_layers: expected a whole number >= 1, got 0"),
        ({"outer": BackboneConfig(64, 1, grid=GridOptions(4))}, "outer.grid.width: expected null"),
    ],
)
def test_bad_values_are_named(options, message):
    with pytest.raises(UserError, match=message):
        MultiScaleConfig(**{"outer": OUTER, **options})


# Published models


def n_parameters(config):
    return sum(
        p.numel()
        for p in LanguageModel(
            LanguageModelConfig(config, vocab_size=256, tie_embeddings=False, head_bias=True)
        ).parameters()
    )


# A gated MLP has three matrices, the published one two: 4/3 times the width is as large as its 2.
S4 = BackboneConfig(64, 8, mixer="s4+mlp", norm="layer", mlp_ratio=4 / 3, s4=S4Options(form="dplr"))


def system_parameters(config):
    """Those of log(-Re A), Im A, B and P in all blocks, which one system for all channels would spare."""
    sides = 2 if config.sides == "both" else 1
    stages = [config.stage(index) for index in range(3)]
    channels = [stage.d_model * stage.n_layers for stage in stages]
    half = config.outer.s4.d_state // 2
    return 6 * half * (sides * sum(channels[:-1]) + channels[-1])


def test_sashimi_with_both_sides_has_the_published_size():
    config = MultiScaleConfig(S4, sides="both")
    total = n_parameters(config)
    assert total == pytest.approx(6.8e6, rel=0.01)  # the published code's page: one system a channel
    assert total - system_parameters(config) == pytest.approx(5.8e6, rel=0.01)  # the paper: one for all


def test_sashimi_8_differs_from_the_published_size_by_known_parts():
    config = MultiScaleConfig(S4)
    assert n_parameters(config) == pytest.approx(5.43e6, rel=0.001)
    # Its first version had one system for all channels of a block and an output layer without a gate.
    gates = 8 * (64**2 + 128**2 + 256**2)
    assert n_parameters(config) - system_parameters(config) - gates == pytest.approx(4.05e6, rel=0.001)


@pytest.mark.parametrize(("width", "layers", "published"), [(64, 8, 6.1e6), (96, 15, 24.3e6)])
def test_mamba_unet_is_close_to_the_published_size(width, layers, published):
    """2 % to 3 % larger than the Mamba paper's tables 4 and 5 say, whose code is not public."""
    ratio = n_parameters(MultiScaleConfig(BackboneConfig(width, layers), sides="both")) / published
    assert 1.02 < ratio < 1.03
