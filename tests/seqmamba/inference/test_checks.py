from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones import (
    Backbone,
    BackboneConfig,
    LanguageModel,
    LanguageModelConfig,
    MultiScaleBackbone,
    MultiScaleConfig,
)
from seqmamba.errors import UserError
from seqmamba.inference.checks import Check, check_model
from seqmamba.nn import AttentionOptions

NAMES = [
    "chunks = whole",
    "steps = whole",
    "causality",
    "padding",
    "finite, float32",
    "finite, bfloat16 autocast",
    "reverse complement",
    "state growth",
    "state drift",
]


def small(**options) -> BackboneConfig:
    return BackboneConfig(d_model=8, n_layers=2, d_state=4, **options)


def examine(model: nn.Module, **options) -> dict[str, Check]:
    return {check.name: check for check in check_model(model, **{"length": 60, "steps": 40_000, **options})}


def outcomes(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.outcome for name, check in found.items()}


def test_a_sound_causal_model_passes():
    torch.manual_seed(0)
    found = examine(LanguageModel(LanguageModelConfig(small(), vocab_size=12)))
    assert list(found) == NAMES
    assert {name for name, outcome in outcomes(found).items() if outcome != "pass"} == {"reverse complement"}
    assert found["reverse complement"].outcome == "skip"
    assert "600 positions" in found["finite, float32"].detail


def test_a_bidirectional_model_skips_what_needs_a_state():
    found = outcomes(examine(Backbone(small(direction="bidirectional"))))
    assert {name for name, outcome in found.items() if outcome == "pass"} == {
        "padding",
        "finite, float32",
        "finite, bfloat16 autocast",
    }
    assert "fail" not in found.values()


def test_a_dna_model_is_checked_for_both_strands():
    config = SequenceModelConfig(small(direction="bidirectional"), classes=("a", "b"), strand="equivariant")
    assert examine(SequenceModel(config))["reverse complement"].outcome == "pass"


class Spoilt(Backbone):
    """A backbone with one defect."""

    def __init__(self, defect: Callable[[Tensor], Tensor]) -> None:
        super().__init__(small())
        self.defect = defect

    def forward(self, x, **options):
        result = super().forward(x, **options)
        if isinstance(result, tuple):
            return self.defect(result[0]), result[1]
        return self.defect(result)


def test_a_look_at_the_future_fails():
    found = outcomes(examine(Spoilt(lambda y: y + y.mean(dim=1, keepdim=True))))
    assert {"causality", "steps = whole", "chunks = whole"} <= {n for n, o in found.items() if o == "fail"}
    assert found["state drift"] == "pass"


def test_values_that_are_not_finite_fail():
    found = examine(Spoilt(lambda y: y.where(torch.arange(y.shape[1])[:, None] < 300, torch.nan)))
    assert found["finite, float32"].outcome == "fail"
    assert found["finite, float32"].measured == 300 * 8
    assert found["steps = whole"].outcome == "pass"  # defective beyond the length that is stepped only


def test_a_state_that_grows_fails():
    torch.manual_seed(0)
    backbone = Backbone(small())
    with torch.no_grad():
        for layer in backbone.layers:
            layer.mixer.A_log.fill_(-30)  # nothing is forgotten
            layer.mixer.x_proj.weight.abs_()
    found = outcomes(examine(backbone, steps=100_000))
    assert found["state growth"] == "fail"


class LosesItsState(Backbone):
    """Its outputs are sound, but the last tensor of its state is no number."""

    def forward(self, x, *, state=None, **options):
        result = super().forward(x, **options)
        if not isinstance(result, tuple):
            return result
        y, state = result
        leaves = tree_leaves(state)
        return y, tree_map(lambda t: torch.full_like(t, torch.nan) if t is leaves[-1] else t, state)


def test_a_state_that_is_no_number_fails():
    found = outcomes(examine(LosesItsState(small())))
    assert (found["state growth"], found["state drift"]) == ("fail", "fail")


@pytest.mark.parametrize(("window", "outcome"), [(None, "skip"), (8, "pass")])
def test_a_state_that_holds_every_position_is_not_watched(window, outcome):
    torch.manual_seed(0)
    attention = AttentionOptions(n_heads=2, window=window)
    found = outcomes(examine(Backbone(small(mixer=("mamba", "attention"), attention=attention))))
    assert (found["state growth"], found["state drift"]) == (outcome, outcome)
    assert found["steps = whole"] == "pass"


def test_the_state_of_a_multi_scale_model_is_watched():
    torch.manual_seed(0)
    found = outcomes(examine(MultiScaleBackbone(MultiScaleConfig(small(), pool=(2, 2)))))
    assert (found["state growth"], found["state drift"]) == ("pass", "pass")


def test_the_training_length_of_the_model_counts():
    config = SequenceModelConfig(small(direction="bidirectional"), classes=("a", "b"), max_length=40)
    found = {check.name: check for check in check_model(SequenceModel(config))}
    assert "over 400 positions" in found["finite, float32"].detail


@pytest.mark.parametrize("options", [{"length": 0}, {"steps": -1}])
def test_bad_numbers_are_named(options):
    with pytest.raises(UserError, match="expected at least 1 position"):
        next(check_model(Backbone(small()), **options))


def test_what_cannot_be_examined_is_refused():
    with pytest.raises(UserError, match="a Linear cannot be checked"):
        next(check_model(nn.Linear(2, 2)))
