"""Every mixer in every place of a multi-scale stack."""

from __future__ import annotations

import math

import pytest
import torch

from seqmamba.backbones import BackboneConfig, MultiScaleBackbone, MultiScaleConfig
from seqmamba.inference import compare_modes
from seqmamba.nn import AttentionOptions, Mamba2Options, S4Options, pack, unpack

PLACES = [
    ("s4+mlp", ("s4+mlp", "mamba")),  # the Mamba paper's model of music: selective in the centre only
    ("s4", ("mamba2", "attention+mlp")),
    ("mamba", ("lstm", ("shared_attention", "mamba", "shared_attention"))),
    ("attention", ("gru", "s4")),
]


def make(place, n_layers=1, **options):
    torch.manual_seed(0)
    outer = BackboneConfig(
        8,
        n_layers,
        mixer=place[0],
        d_state=4,
        s4=S4Options(d_state=8, form="dplr"),
        mamba2=Mamba2Options(d_state=4, head_dim=4),
        attention=AttentionOptions(n_heads=2),
        **options,
    )
    config = MultiScaleConfig(
        outer, pool=(3, 2), sides="both", inner_mixers=place[1], inner_layers=(n_layers, 3)
    )
    return MultiScaleBackbone(config).double()


def randn(length, seed=0):
    generator = torch.Generator().manual_seed(100 * seed + length)
    return torch.randn(length, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_whole_chunked_and_stepwise_agree(place):
    for length in (2, 7, 18, 25):
        report = compare_modes(make(place), torch.stack([randn(length), randn(length, 1)]))
        assert report.worst <= 1e-11
        assert report.scale > 1


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_packed_sequences_equal_separate_ones(place, direction):
    backbone = make(place, direction=direction)
    sequences = [randn(length) for length in (1, 13, 2, 6, 31, 5)]
    packed, reset = pack(sequences)
    outputs = unpack(backbone(packed, reset=reset), [len(s) for s in sequences])
    for output, sequence in zip(outputs, sequences, strict=True):
        torch.testing.assert_close(output, backbone(sequence[None])[0], atol=1e-11, rtol=0)


def test_another_sampling_rate_reaches_all_stages():
    """In s4 a rate is a longer step: the same as step sizes that were multiplied by it."""
    backbone = make(("s4", ("s4", "s4")))
    x = torch.stack([randn(25)])
    fast = backbone(x, rate=2.0)
    assert compare_modes(backbone, x).worst <= 1e-11
    y, state = backbone(x[:, :10], return_state=True, rate=2.0)
    rest = backbone(x[:, 10:], state=state, rate=2.0)
    torch.testing.assert_close(torch.cat((y, rest), dim=1), fast, atol=1e-11, rtol=0)
    with torch.no_grad():
        for key, parameter in backbone.named_parameters():
            if key.endswith("log_dt"):
                parameter.add_(math.log(2))
    torch.testing.assert_close(backbone(x), fast, atol=1e-11, rtol=0)
