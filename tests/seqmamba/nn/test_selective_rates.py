"""Mamba at another sampling rate than that of its training."""

from __future__ import annotations

import math

import pytest
import torch

from seqmamba import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mixers import build_mixer
from seqmamba.nn.short_convolution import taps_at_rate

LENGTH = 256


def make(**options):
    torch.manual_seed(0)
    mixer = build_mixer("mamba", MixerConfig(8, d_state=4, dt_min=0.01, dt_max=0.1, **options))
    return mixer.double().eval()


def slow_signal(length=LENGTH):
    """Sums of sines with periods of 40 samples and more."""
    torch.manual_seed(1)
    t = torch.arange(length, dtype=torch.float64)[:, None]
    periods = 40 + 60 * torch.rand(8, dtype=torch.float64)
    return torch.sin(math.tau * t / periods + torch.rand(8).double())[None]


@pytest.mark.parametrize("rate", [0.5, 0.8, 2.0, 3.0])
def test_taps_keep_the_gain_and_the_delay(rate):
    weight = torch.randn(3, 4, dtype=torch.float64)
    taps = taps_at_rate(weight, rate)
    close = {"rtol": 1e-6, "atol": 1e-6}  # the taps are made with float32 numbers
    back = torch.arange(taps.shape[1] - 1, -1, -1).double() * rate
    torch.testing.assert_close(taps.sum(1), weight.sum(1), **close)
    torch.testing.assert_close(taps @ back, weight @ torch.arange(3, -1, -1.0).double(), **close)


def test_taps_of_half_the_rate_are_spread_and_of_the_same_rate_are_kept():
    weight = torch.randn(2, 3)
    assert torch.equal(taps_at_rate(weight, 1.0), weight)
    spread = taps_at_rate(weight, 0.5)
    assert torch.equal(spread[:, ::2], weight)
    assert not spread[:, 1::2].any()


@pytest.mark.parametrize("options", [{}, {"direction": "bidirectional"}, {"dt_limit": (0.0, 1.0)}], ids=str)
@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_the_mixer_that_knows_the_rate_follows_the_one_at_its_own(options, rate):
    mixer, fast = make(**options), slow_signal()
    slow = fast[:, ::2]
    if rate == 2.0:  # trained on the fast signal, tested on the slow one
        expected = mixer(fast)[0][:, ::2]
        aware, unaware = (mixer(slow, rate=r)[0] for r in (rate, 1.0))
    else:
        expected = mixer(slow)[0]
        aware, unaware = (mixer(fast, rate=r)[0][:, ::2] for r in (rate, 1.0))
    inside = slice(16, -16)
    errors = [(y - expected)[:, inside].abs().mean().item() for y in (aware, unaware)]
    assert errors[0] < 0.25 * errors[1]


def test_chunks_and_steps_at_another_rate_give_what_the_whole_gives():
    mixer, x = make(), slow_signal(24)
    whole, last = mixer(x, rate=2.0, return_state=True)
    state, parts = None, []
    for part in x.split([7, 1, 1, 15], dim=1):
        y, state = mixer(part, state=state, return_state=True, rate=2.0)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state.scan, last.scan)


def test_a_state_needs_a_kernel_of_its_own_width():
    mixer, x = make(), slow_signal(8)
    mixer(x, rate=0.5)
    with pytest.raises(UserError, match=r"rate: expected at least 1 where a state is carried, got 0\.5"):
        mixer(x, rate=0.5, return_state=True)


def test_a_backbone_hands_the_rate_to_every_block():
    backbone = Backbone(BackboneConfig(8, 2, direction="bidirectional", d_state=4)).eval()
    x = slow_signal(16).float()
    assert not torch.allclose(backbone(x, rate=2.0), backbone(x))
    with pytest.raises(UserError, match="rate: expected a positive number, got 0"):
        backbone(x, rate=0)
