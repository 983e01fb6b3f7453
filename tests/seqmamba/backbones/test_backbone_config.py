from __future__ import annotations

import json
from dataclasses import asdict

import jsonargparse
import pytest

from seqmamba.backbones import BackboneConfig
from seqmamba.backbones.config_file import build_config
from seqmamba.errors import UserError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 0),
        ("d_model", 2.5),
        ("d_model", True),
        ("d_model", "64"),
        ("n_layers", 0),
        ("mixer", "hyena"),
        ("mixer", ()),
        ("mixer", ("mamba", "hyena")),
        ("mixer", 3),
        ("direction", "both"),
        ("combine", "mean"),
        ("d_state", -1),
        ("d_conv", 0),
        ("expand", 0),
        ("dt_rank", 0),
        ("dt_min", 0.0),
        ("dt_min", 0.5),
        ("dt_max", float("nan")),
        ("dropout", 1.0),
        ("dropout", "0.1"),
        ("norm_eps", 0),
        ("checkpoint_activations", 1),
        ("scan_impl", "fast"),
    ],
)
def test_a_bad_value_is_named(field, value):
    with pytest.raises(UserError, match=rf"{field}.*expected .*got") as caught:
        BackboneConfig(**{"d_model": 8, "n_layers": 1, field: value})
    assert repr(value) in caught.value.message


def test_json_round_trip():
    config = BackboneConfig(d_model=8, n_layers=3, mixer=("mamba", "mamba"), dt_rank=2)
    restored = build_config(BackboneConfig, json.loads(json.dumps(asdict(config))), "config.json")
    assert restored == config
    assert hash(restored) == hash(config)


def test_defaults_and_derived_sizes():
    config = BackboneConfig(d_model=40, n_layers=2)
    assert (config.d_inner, config.delta_rank, config.d_state, config.d_conv) == (80, 3, 16, 4)


def test_pattern_repeats_over_the_depth():
    config = BackboneConfig(d_model=8, n_layers=3, mixer=("mamba", "mamba"))
    assert [config.mixer_of(i) for i in range(3)] == ["mamba"] * 3


@pytest.mark.parametrize(
    ("arguments", "mixer"),
    [([], "mamba"), (["--b.mixer", "mamba"], "mamba"), (['--b.mixer=["mamba"]'], ("mamba",))],
)
def test_jsonargparse_builds_it(arguments, mixer):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--b", type=BackboneConfig)
    parsed = parser.parse_args(["--b.d_model=8", "--b.n_layers=2", "--b.direction=bidirectional", *arguments])
    assert parser.instantiate(parsed).b == BackboneConfig(
        d_model=8, n_layers=2, direction="bidirectional", mixer=mixer
    )
