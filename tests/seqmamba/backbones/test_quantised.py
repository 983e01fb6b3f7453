from __future__ import annotations

import builtins
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import seqmamba
from seqmamba.backbones import (
    Backbone,
    BackboneConfig,
    LanguageModel,
    LanguageModelConfig,
    MultiScaleBackbone,
    MultiScaleConfig,
)
from seqmamba.backbones.quantisation import quantise
from seqmamba.backbones.quantised import int8_layers
from seqmamba.backbones.token_program import program_obstacle
from seqmamba.backbones.weights import load_weights
from seqmamba.errors import UserError
from seqmamba.model_identity import fingerprint

CONFIG = BackboneConfig(d_model=32, n_layers=2, d_state=4, mixer=("mamba", "attention"))


@pytest.fixture(scope="module")
def original() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(LanguageModelConfig(CONFIG, vocab_size=20, tie_embeddings=True)).eval()


@pytest.fixture(scope="module")
def quantised(original: LanguageModel) -> LanguageModel:
    return quantise(original)


@pytest.fixture
def saved(quantised: LanguageModel, tmp_path: Path) -> Path:
    quantised.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def tokens() -> torch.Tensor:
    return torch.randint(20, (2, 30), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_answers_change_by_rounding_only(original: LanguageModel, quantised: LanguageModel) -> None:
    expected, got = original(tokens()), quantised(tokens())
    assert 0 < (got - expected).abs().max() < 0.03 * expected.abs().max()


@torch.no_grad()
def test_weights_are_the_nearest_multiples_of_a_scale_a_row(
    original: LanguageModel, quantised: LanguageModel
) -> None:
    for name in int8_layers(quantised):
        weight = original.get_submodule(name).weight
        stored: Any = quantised.get_submodule(name).weight
        assert stored.qdata.dtype == torch.int8
        assert stored.scale.shape == (len(weight), 1)
        assert ((stored.dequantize() - weight).abs() <= 0.5001 * stored.scale + 1e-7).all()


def test_only_projections_of_the_backbone_change(original: LanguageModel, quantised: LanguageModel) -> None:
    layers = int8_layers(quantised)
    assert "backbone.layers.0.mixer.in_proj" in layers
    assert "lm_head" not in layers  # shares its weight with the embedding
    assert not any("dt_proj" in name for name in layers)  # as narrow as its scale is wide
    assert int8_layers(original) == []
    assert quantised.lm_head.weight is quantised.embedding.weight
    same = {
        name: tensor for name, tensor in original.named_parameters() if name[: -len(".weight")] not in layers
    }
    for name, tensor in same.items():
        assert torch.equal(tensor, quantised.get_parameter(name))


@torch.no_grad()
def test_a_folder_brings_back_the_same_model(saved: Path, quantised: LanguageModel) -> None:
    loaded = seqmamba.from_pretrained(saved)
    assert torch.equal(loaded(tokens()), quantised(tokens()))
    assert fingerprint(loaded) == fingerprint(quantised)
    assert int8_layers(loaded) == int8_layers(quantised)
    stored = load_file(saved / "model.safetensors")
    layer = "backbone.layers.0.mixer.in_proj"
    assert stored[f"{layer}.weight"].dtype == torch.int8
    assert stored[f"{layer}.weight_scale"].dtype == torch.float32


@torch.no_grad()
def test_it_steps_as_it_scans(quantised: LanguageModel) -> None:
    whole, state = quantised(tokens()), quantised.init_state(2)
    for position in range(5):
        y, state = quantised(tokens()[:, position : position + 1], state=state, return_state=True)
        torch.testing.assert_close(y[:, 0], whole[:, position])


def test_it_learns_nothing_and_is_no_gpu_program(quantised: LanguageModel) -> None:
    assert not any(parameter.requires_grad for parameter in quantised.parameters())
    causal = LanguageModel(LanguageModelConfig(BackboneConfig(d_model=32, n_layers=1), vocab_size=20))
    assert program_obstacle(causal) is None
    assert program_obstacle(quantise(causal)) == "its matrices are quantised"


def test_gradients_do_not_go_past_the_weights() -> None:
    torch.manual_seed(0)
    model = Backbone(BackboneConfig(d_model=16, n_layers=1, d_state=2, direction="bidirectional")).eval()
    small, grads = quantise(model), []
    mixers: list[Any] = [each.layers[0].mixer for each in (model, small)]
    assert [mixer._is_plain() for mixer in mixers] == [
        True,
        False,
    ]  # a backward by hand reads them as numbers
    for each in (model, small):
        x = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
        each(x).square().sum().backward()
        grads.append(x.grad)
    assert (grads[0] - grads[1]).abs().max() < 0.03 * grads[0].abs().max()


@torch.no_grad()
def test_a_multi_scale_stack_of_lstms_steps_too() -> None:
    outer = BackboneConfig(d_model=16, n_layers=1, mixer="lstm")
    model = quantise(MultiScaleBackbone(MultiScaleConfig(outer, pool=(2,))))
    assert int8_layers(model)
    x = torch.randn(1, 4, 16)
    whole, state = model(x), model.init_state(1)
    for position in range(4):
        y, state = model(x[:, position : position + 1], state=state, return_state=True)
        torch.testing.assert_close(y[:, 0], whole[:, position])


def test_what_has_no_projections_is_refused() -> None:
    with pytest.raises(UserError, match="whose backbone has projections of 16 or more inputs, got a Linear"):
        quantise(nn.Linear(32, 32))
    narrow = Backbone(BackboneConfig(d_model=4, n_layers=1, expand=1))
    with pytest.raises(UserError, match="got a Backbone without"):
        quantise(narrow)


def test_a_quantised_model_is_not_quantised_again(quantised: LanguageModel) -> None:
    with pytest.raises(UserError, match="got a LanguageModel without"):
        quantise(quantised)


def test_float_models_do_not_take_int8_weights(original: LanguageModel, quantised: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"_proj.weight: expected ordinary weights, got int8 ones"):
        load_weights(copy.deepcopy(original), dict(quantised.state_dict()), "run")


def break_file(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors: dict[str, Any] = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


LAYER = "backbone.layers.0.mixer.out_proj"


@pytest.mark.parametrize(
    "changes",
    [
        {f"{LAYER}.weight_scale": None},
        {f"{LAYER}.weight_scale": torch.ones(3, 1)},
        {f"{LAYER}.weight": torch.ones(32, 64)},
        {f"{LAYER}.weight": None},
    ],
)
def test_tensors_that_do_not_fit_are_named(saved: Path, changes: dict[str, torch.Tensor | None]) -> None:
    break_file(saved, **changes)
    with pytest.raises(UserError, match=rf"expected {LAYER}.weight int8 \(32, 64\) and {LAYER}.weight_scale"):
        seqmamba.from_pretrained(saved)


@pytest.mark.parametrize("layers", [["backbone.norm"], ["nothing"], "all", [3]])
def test_layers_that_are_none_are_refused(saved: Path, layers: Any) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"int8_layers": layers}))
    with pytest.raises(UserError, match="lists int8 layers that are no linear layers"):
        seqmamba.from_pretrained(saved)


def test_a_missing_package_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "torchao":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="int8 weights need the package torchao") as caught:
        seqmamba.from_pretrained(saved)
    assert "seqmamba[quantise]" in str(caught.value.hint)
