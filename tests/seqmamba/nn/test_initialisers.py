from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from seqmamba.nn.config import MixerConfig
from seqmamba.nn.initialisers import log_uniform_delta_bias, protect, s4d_real, scale_residual_projection
from seqmamba.nn.mamba import Mamba


def test_s4d_real_is_minus_one_to_minus_n():
    A = -torch.exp(s4d_real(3, 5))
    torch.testing.assert_close(A, -torch.arange(1.0, 6.0).expand(3, 5))


@pytest.mark.parametrize(("low", "high"), [(1e-3, 0.1), (1e-2, 1.0)])
def test_softplus_of_delta_bias_is_log_uniform(low, high):
    torch.manual_seed(0)
    delta = F.softplus(log_uniform_delta_bias(20_000, low, high).double())
    assert delta.min() >= low * (1 - 1e-4)
    assert delta.max() <= high * (1 + 1e-4)
    position = ((delta.log() - math.log(low)) / math.log(high / low)).sort().values
    ideal = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    assert (position - ideal).abs().max() < 0.02  # Kolmogorov-Smirnov distance; 1 % level is 0.0115


def test_delta_bias_never_falls_below_the_floor():
    assert F.softplus(log_uniform_delta_bias(1000, 1e-9, 1e-8)).min() >= 0.99e-4


def test_delta_projection_keeps_variance():
    torch.manual_seed(0)
    weight = Mamba(MixerConfig(d_model=256)).dt_proj.weight
    bound = 16**-0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_marks():
    mixer = Mamba(MixerConfig(d_model=8))
    exempt = {name for name, p in mixer.named_parameters() if getattr(p, "_no_weight_decay", False)}
    kept = {name for name, p in mixer.named_parameters() if getattr(p, "_no_reinit", False)}
    assert exempt == {"A_log", "D", "dt_proj.bias"}
    assert kept == {"A_log", "D", "dt_proj.bias", "dt_proj.weight"}


def test_marks_survive_a_move():
    mixer = Mamba(MixerConfig(d_model=8)).to(torch.float64)
    assert mixer.A_log._no_weight_decay


def test_protect_with_weight_decay():
    parameter = protect(nn.Parameter(torch.ones(2)), weight_decay=True)
    assert parameter._no_reinit
    assert not hasattr(parameter, "_no_weight_decay")


def test_protect_with_a_largest_learning_rate():
    parameter = protect(nn.Parameter(torch.ones(2)), max_lr=1e-3)
    assert parameter._max_lr == 1e-3
    assert parameter._no_weight_decay
    assert not hasattr(protect(nn.Parameter(torch.ones(2))), "_max_lr")


def test_scale_residual_projection():
    projection = nn.Linear(4, 4)
    before = projection.weight.detach().clone()
    scale_residual_projection(projection, 9)
    torch.testing.assert_close(projection.weight.detach(), before / 3)
