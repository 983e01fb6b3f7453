"""Hugging Face transformers' Mamba models on our operators give what their own PyTorch code gives."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.compat import accelerate_transformers, causal_conv1d_fn, mamba_inner_fn, transformers_models
from seqmamba.errors import UserError

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("Mamba", {"state_size": 4, "use_bias": True}),
    "falcon_mamba": ("FalconMamba", {"state_size": 4}),
    "mamba2": ("Mamba2", {"state_size": 8, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 8}),
}


def _model(family: str) -> Any:
    name, sizes = MODELS[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SMALL, **sizes)
    return getattr(transformers, f"{name}ForCausalLM")(config).float()


def _loss_and_gradients(model: Any, **batch: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    output = model(**batch, labels=batch["input_ids"], use_cache=False)
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) > 10
    return {"logits": output.logits.detach(), **gradients}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_logits_and_gradients_equal_the_slow_path(family: str, training: bool, padded: bool) -> None:
    model = _model(family).train(training)
    batch = {"input_ids": torch.randint(3, 31, (2, 21), generator=torch.Generator().manual_seed(1))}
    if padded:
        batch["attention_mask"] = torch.ones_like(batch["input_ids"])
        batch["attention_mask"][0, :5] = 0
    expected = _loss_and_gradients(model, **batch)
    calls: list[str] = []
    with _counted(family, calls):
        actual = _loss_and_gradients(model, **batch)
    assert len([name for name in calls if name.startswith("causal_conv1d")]) == 2
    assert len(calls) >= 4
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        error = (actual[name] - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)
        assert error <= 1e-4, f"{name}: {error.item():.1e}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", MODELS)
def test_generation_with_its_cache_equals_the_slow_path(family: str) -> None:
    model = _model(family).eval()
    prompt = torch.randint(3, 31, (2, 9), generator=torch.Generator().manual_seed(2))
    options = {
        "max_new_tokens": 8,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    wanted = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    calls: list[str] = []
    with _counted(family, calls):
        actual = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    assert calls.count("causal_conv1d_update") == 2 * 7
    assert torch.equal(actual.sequences, wanted.sequences)
    for got, expected in zip(actual.logits, wanted.logits, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    whole = model(actual.sequences).logits[:, prompt.shape[1] - 1 : -1]
    torch.testing.assert_close(torch.stack(actual.logits, dim=1), whole, rtol=1e-4, atol=1e-5)


class _counted:
    """`accelerate_transformers`, and the names of the calls."""

    def __init__(self, family: str, calls: list[str]) -> None:
        self.family, self.calls = family, calls

    def __enter__(self) -> None:
        self.acceleration = accelerate_transformers(self.family)
        module = transformers_models._modeling_module(self.family)[0]
        self.patch = pytest.MonkeyPatch()
        for name in self.acceleration.patched[self.family]:
            function = getattr(module, name)

            def call(*arguments: Any, _name: str = name, _function: Any = function, **options: Any) -> Any:
                self.calls.append(_name)
                return _function(*arguments, **options)

            self.patch.setattr(module, name, call)

    def __exit__(self, *error: object) -> None:
        self.patch.undo()
        self.acceleration.undo()


@pytest.mark.filterwarnings("ignore")
def test_the_fused_block_on_the_weights_of_a_layer() -> None:
    mixer = _model("mamba").backbone.layers[0].mixer.eval()
    x = torch.randn(2, 21, 16, generator=torch.Generator().manual_seed(3))
    y = mamba_inner_fn(
        mixer.in_proj(x).transpose(1, 2),
        mixer.conv1d.weight,
        mixer.conv1d.bias,
        mixer.x_proj.weight,
        mixer.dt_proj.weight,
        mixer.out_proj.weight,
        mixer.out_proj.bias,
        -torch.exp(mixer.A_log),
        D=mixer.D,
        delta_bias=mixer.dt_proj.bias,
    )
    torch.testing.assert_close(y, mixer(x), rtol=1e-4, atol=1e-5)


def test_it_says_what_it_did_and_takes_it_back() -> None:
    module = transformers_models._modeling_module("mamba")[0]
    assert module is not None
    before = module.causal_conv1d_fn
    acceleration = accelerate_transformers()
    assert set(acceleration.patched) | set(acceleration.skipped) == set(transformers_models.FAMILIES)
    assert len(acceleration.patched["mamba"]) == 5
    assert len(acceleration.patched["mamba2"]) == 5
    assert str(acceleration).startswith("on seqmamba's operators: mamba, mamba2")
    assert module.causal_conv1d_fn.__wrapped__ is causal_conv1d_fn
    acceleration.undo()
    assert module.causal_conv1d_fn is before


def test_what_cannot_be_patched_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    module = transformers_models._modeling_module("zamba")[0]
    assert module is not None
    monkeypatch.setattr(module, "is_fast_path_available", False, raising=False)
    monkeypatch.setattr(transformers_models, "FAMILIES", ("mamba", "zamba", "mamba9"))
    with accelerate_transformers() as acceleration:
        assert str(acceleration) == (
            "on seqmamba's operators: mamba; not patched: "
            "zamba (transformers before 5.16 reaches its kernels another way); "
            "mamba9 (this version of transformers does not have it)."
        )
    with pytest.raises(UserError, match=r"cannot patch zamba: transformers before 5\.16"):
        accelerate_transformers("zamba")
    with pytest.raises(UserError, match="families must be of mamba, zamba, mamba9, got 'bert'"):
        accelerate_transformers("bert")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="the package transformers cannot be imported"):
        accelerate_transformers()
