"""States stay float32 in half precision, so that thousands of steps end up where one pass over them does."""

from __future__ import annotations

import pytest
import torch
from causal_models import BACKBONES, language_model, prompt
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seqmamba.inference import Stream, run_whole
from seqmamba.nn.state import map_state

LENGTH = 512
EXCESS = 1.2
"""Error of the steps over that of one pass that still counts as the same."""


class RoundingStream(Stream):
    """What a stream would be with states in bfloat16."""

    def feed(self, x):
        y = super().feed(x)
        self.state = map_state(lambda part: part.bfloat16().to(part.dtype), self.state)
        return y


def errors_of(name, narrow, stream_type=Stream):
    """Relative errors at late positions against float64 on the same weights: of steps, of one pass."""
    backbone = language_model(name).backbone.eval()
    with torch.no_grad():
        for key, parameter in backbone.named_parameters():
            if key.endswith("A_log"):
                parameter.sub_(3)  # nothing is forgotten over this length
    if narrow == "model":
        backbone.bfloat16()
    x = 0.3 + torch.randn(11, 8, generator=torch.Generator().manual_seed(0))[prompt(1, LENGTH)]
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow == "autocast"):
        whole, stream = run_whole(backbone, x), stream_type(backbone)
        steps = torch.cat([stream.feed(piece) for piece in x.split(1, dim=1)], dim=1)
    dtypes = {part.dtype for part in tree_leaves(stream.state) if isinstance(part, Tensor)}
    assert dtypes <= {torch.float32, torch.complex64, torch.int64}
    exact = run_whole(backbone.double(), x.double())[:, -64:]
    return [float((y[:, -64:].double() - exact).norm() / exact.norm()) for y in (steps, whole)]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("narrow", ["autocast", "model"])
def test_steps_in_bfloat16_drift_no_further_than_one_pass_does(name, narrow):
    stepwise, whole = errors_of(name, narrow)
    assert stepwise < 0.03
    assert stepwise < EXCESS * whole


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_states_in_bfloat16_would_drift(name):
    """So the tests above would see it."""
    stepwise, whole = errors_of(name, "autocast", RoundingStream)
    assert stepwise > EXCESS * whole
