from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.errors import UserError
from seqmamba.nn.lora import LowRankUpdate, add_lora, merge_lora
from seqmamba.nn.options import Mamba2Options

PATTERNS = [
    ("mamba", "bidirectional"),
    ("mamba2", "bidirectional"),
    ("s4", "causal"),
    ("attention+mlp", "causal"),
]


def backbone(mixer: str, direction: str) -> Backbone:
    torch.manual_seed(0)
    config = BackboneConfig(
        d_model=16,
        n_layers=2,
        mixer=mixer,
        direction=direction,  # type: ignore[arg-type]
        d_state=4,
        mamba2=Mamba2Options(head_dim=8),
    )
    return Backbone(config).double()


def randomise(module: nn.Module) -> None:
    """Give every update a value, as training would."""
    for part in module.modules():
        if isinstance(part, LowRankUpdate):
            nn.init.normal_(part.up, std=0.1)


@pytest.mark.parametrize(("mixer", "direction"), PATTERNS)
def test_starts_at_the_weights_and_merges_into_them(mixer: str, direction: str) -> None:
    plain = backbone(mixer, direction)
    x = torch.randn(2, 11, 16, dtype=torch.float64)
    before = plain(x)
    names = set(plain.state_dict())
    adapted = add_lora(plain, rank=2, alpha=3.0)
    assert adapted
    assert torch.equal(plain(x), before)
    randomise(plain)
    after = plain(x)
    assert (after - before).abs().max() > 1e-3
    merged = merge_lora(plain)
    assert set(merged.state_dict()) == names
    assert torch.allclose(merged(x), after, rtol=1e-12, atol=1e-12)
    assert any(isinstance(part, LowRankUpdate) for part in plain.modules())  # the original goes on training


def test_the_update_is_alpha_over_rank_times_the_product() -> None:
    layer = nn.Sequential(nn.Linear(8, 6))
    weight = layer[0].weight.detach().clone()
    add_lora(layer, rank=4, alpha=10.0)
    update = layer[0].parametrizations.weight[0]
    nn.init.normal_(update.up)
    expected = weight + 10.0 / 4 * update.up @ update.down
    assert torch.allclose(layer[0].weight, expected)


def test_only_the_updates_are_trained_and_all_of_them_get_a_gradient() -> None:
    model = backbone("mamba", "bidirectional")
    names = add_lora(model, rank=2)
    randomise(model)
    model(torch.randn(2, 9, 16, dtype=torch.float64)).square().sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{n}.parametrizations.weight.0.{part}" for n in names for part in ("up", "down")}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == (name in trained)


def test_the_weight_keeps_its_dtype_under_autocast() -> None:
    layer = nn.Sequential(nn.Linear(8, 6))
    add_lora(layer, rank=2)
    randomise(layer)
    outside = layer[0].weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer[0].weight, outside)


def test_layers_that_are_too_narrow_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    assert add_lora(model, rank=4) == ["0"]
    assert not parametrize.is_parametrized(model[1])
    assert not any(parameter.requires_grad for parameter in model[1].parameters())
    with pytest.raises(UserError, match="expected a rank below the width of some projection, got 8"):
        add_lora(nn.Sequential(nn.Linear(8, 8)), rank=8)
    with pytest.raises(UserError, match="lora_alpha: expected a number > 0, got 0"):
        add_lora(model, rank=2, alpha=0.0)


def test_a_module_without_updates_is_returned_itself() -> None:
    model = nn.Linear(3, 3)
    assert merge_lora(model) is model
