"""Checkpoints under the published names, with random weights, against the equations step by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from caduceus_reference import PLANT_COMPLEMENT, Reference, Weights, published_config, published_weights
from safetensors.torch import save_file
from torch import Tensor

import seqmamba
from genomics.caduceus import import_model
from genomics.masked_model import MaskedModel
from genomics.vocabulary import CADUCEUS, PLANT_CADUCEUS, Vocabulary
from seqmamba.errors import UserError

STACK = "caduceus.backbone."
MIXER = f"{STACK}layers.1.mixer.submodule."
EMBEDDING = f"{STACK}embeddings.word_embeddings.embedding.weight"


def load(
    config: dict[str, Any], weights: Weights, folder: Path, file: str = "model.safetensors"
) -> MaskedModel:
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.clone() for name, tensor in weights.items()}
    if file.endswith(".bin"):
        torch.save(tensors, folder / file)
    else:
        save_file(tensors, folder / file)
    model = seqmamba.from_pretrained(folder)
    assert isinstance(model, MaskedModel)
    assert not model.training
    return model


def random_tokens(config: dict[str, Any], length: int = 9) -> Tensor:
    rows = config["vocab_size"]
    return torch.randint(rows, (2, length), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def assert_same(model: MaskedModel, reference: Reference, tokens: Tensor) -> None:
    model = model.double()
    features, logits = model.features(tokens), model(tokens)
    for row, sequence in enumerate(tokens):
        hidden, scores = reference(sequence)
        assert features[row].shape == hidden.shape
        assert (features[row] - hidden).abs().max() < 1e-10
        assert (logits[row] - scores).abs().max() < 1e-9


@pytest.mark.parametrize("n_layer", [1, 2, 3, 4])
@pytest.mark.parametrize(("rcps", "fused"), [(True, True), (True, False), (False, True), (False, False)])
def test_features_and_logits_are_those_of_the_equations(
    rcps: bool, fused: bool, n_layer: int, tmp_path: Path
) -> None:
    config = published_config(rcps=rcps, fused_add_norm=fused, n_layer=n_layer)
    weights = published_weights(config)
    assert_same(load(config, weights, tmp_path), Reference(config, weights), random_tokens(config))


@pytest.mark.parametrize("rcps", [True, False])
@pytest.mark.parametrize("n_layer", [2, 3])
def test_layer_norms_and_biases_turn_with_their_block(rcps: bool, n_layer: int, tmp_path: Path) -> None:
    config = published_config(rcps=rcps, n_layer=n_layer, rms_norm=False, norm_epsilon=0.1)
    config["ssm_cfg"]["bias"] = True
    weights = published_weights(config)
    assert_same(load(config, weights, tmp_path), Reference(config, weights), random_tokens(config))


def test_the_swap_of_the_fused_code_is_another_function(tmp_path: Path) -> None:
    config = published_config()
    weights = published_weights(config)
    tokens = random_tokens(config)
    fused = load(config, weights, tmp_path)
    plain = {  # the names that the unfused code gives the same tensors
        name.replace(".norm.", ".norm.submodule.").replace("norm_f.", "norm_f.submodule."): tensor
        for name, tensor in weights.items()
    }
    unfused = load(config | {"fused_add_norm": False}, plain, tmp_path)
    with torch.no_grad():
        assert (fused(tokens) - unfused(tokens)).abs().max() > 1
        assert max(model.symmetry_error(2, 9) or 0 for model in (fused, unfused)) < 1e-5


@pytest.mark.parametrize("rcps", [True, False])
def test_pytorch_files_and_stacks_without_a_head_load_alike(rcps: bool, tmp_path: Path) -> None:
    config = published_config(rcps=rcps, n_layer=2)
    weights = published_weights(config)
    bare = {name.removeprefix("caduceus."): t for name, t in weights.items() if "lm_head" not in name}
    (tmp_path / "bare").mkdir()
    tokens = random_tokens(config)
    with torch.no_grad():
        from_torch = load(config, weights, tmp_path, "pytorch_model.bin")(tokens)
        from_bare = load(config, bare, tmp_path / "bare")(tokens)
        assert torch.equal(from_torch, from_bare)


def test_tied_weights_may_be_stored_under_any_of_their_names(tmp_path: Path) -> None:
    config = published_config()
    weights = published_weights(config)
    all_names, last_names = dict(weights), dict(weights)
    for name in [name for name in weights if "mamba_fwd.in_proj" in name or "mamba_fwd.out_proj" in name]:
        all_names[name.replace("fwd", "rev")] = weights[name]
        last_names[name.replace("fwd", "rev")] = last_names.pop(name)
    all_names["lm_head.lm_head.weight"] = weights[EMBEDDING]
    last_names["lm_head.lm_head.weight"] = last_names.pop(EMBEDDING)
    model = import_model(config, weights, "config.json")
    for other in (all_names, last_names):
        assert_equal(import_model(config, other, "config.json"), model)
    assert model.language_model.lm_head is not None
    assert model.language_model.lm_head.weight is model.language_model.embedding.weight


def test_an_untied_head_of_its_own() -> None:
    config = published_config(rcps=False, n_layer=1, tie_word_embeddings=False)
    weights = published_weights(config)
    weights["lm_head.weight"] = torch.randn(16, 10)
    assert_same(
        import_model(config, weights, "config.json"), Reference(config, weights), random_tokens(config)
    )


def test_weights_of_sixteen_bits_become_float32() -> None:
    config = published_config(n_layer=2)
    weights = published_weights(config)
    narrow = {name: t.bfloat16() if t.is_floating_point() else t.int() for name, t in weights.items()}
    model = import_model(config, narrow, "config.json")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert_same(model, Reference(config, narrow), random_tokens(config))


@pytest.mark.parametrize("n_layer", [2, 3])
def test_an_imported_model_is_saved_as_one_of_ours(n_layer: int, tmp_path: Path) -> None:
    config = published_config(n_layer=n_layer)
    model = load(config, published_weights(config), tmp_path)
    model.save_pretrained(tmp_path / "own")
    again = seqmamba.from_pretrained(tmp_path / "own")
    assert isinstance(again, MaskedModel)
    assert again.config == model.config
    assert_equal(again, model)
    tokens = random_tokens(config)
    assert torch.equal(again(tokens), model(tokens))


def assert_equal(one: MaskedModel, other: MaskedModel) -> None:
    theirs = other.state_dict()
    assert one.state_dict().keys() == theirs.keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_caduceus_speaks_our_alphabet_and_plant_caduceus_its_own() -> None:
    config = published_config(n_layer=1)
    assert import_model(config, published_weights(config), "").config.vocabulary == CADUCEUS
    config = published_config(PLANT_COMPLEMENT, n_layer=2)
    model = import_model(config, published_weights(config), "")
    assert model.config.vocabulary == PLANT_CADUCEUS
    tokens, lengths = model.tokenise(["ACGTN", "ttg"])
    assert tokens.tolist() == [[3, 4, 5, 6, 2], [6, 6, 5, 0, 0]]
    assert lengths.tolist() == [5, 3]
    assert (model.symmetry_error(2, 9) or 0) < 1e-5


def test_the_vocabulary_is_padded_as_the_embedding_is() -> None:
    config = published_config(n_layer=1)
    weights = published_weights(config)
    short = {token: other for token, other in config["complement_map"].items() if int(token) < 12}
    fresh = config | {"vocab_size": 12, "complement_map": short}
    assert import_model(fresh, weights, "").config == import_model(config, weights, "").config


def test_complements_that_nobody_published_give_ids_without_letters() -> None:
    config = published_config([0, 1, 5, 4, 3, 2, 6], n_layer=1)
    model = import_model(config, published_weights(config), "")
    assert model.config.vocabulary == Vocabulary((0, 1, 5, 4, 3, 2, 6, 7))
    with pytest.raises(UserError, match="which token ids stand for A, C, G and T"):
        model.tokenise(["ACGT"])
    assert (model.symmetry_error(2, 9) or 0) < 1e-5


def test_a_plain_checkpoint_may_lack_complements() -> None:
    config = published_config(rcps=False, n_layer=1, complement_map=None)
    weights = published_weights(published_config(rcps=False, n_layer=1))
    assert import_model(config, weights, "").config.vocabulary == Vocabulary(tuple(range(16)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bidirectional_strategy": "ew_multiply"}, "bidirectional_strategy: expected 'add'.*'ew_multiply'"),
        ({"bidirectional": False}, "bidirectional: expected True.*got False"),
        ({"bidirectional_weight_tie": False}, "bidirectional_weight_tie: expected True.*got False"),
        ({"layer_cfg": {"mamba_cfg": {"version": "v2"}}}, "layer_cfg: the layout of PlantCAD2"),
        ({"ssm_cfg": {"headdim": 64}}, "ssm_cfg: unknown key headdim"),
        ({"ssm_cfg": {"dt_rank": 0}}, "ssm_cfg: dt_rank: expected a whole number >= 1, got 0"),
        ({"n_layer": 0}, "n_layer: expected a whole number >= 1, got 0"),
        ({"rcps": "yes"}, "rcps: expected true or false, got 'yes'"),
        ({"complement_map": None}, "complement_map: expected the complement of every token id, got None"),
        ({"complement_map": [0, 1]}, "complement_map: expected an object of token ids"),
        ({"complement_map": {"A": "T"}}, "complement_map: expected an object of token ids"),
        ({"complement_map": {"0": 1}}, "complement_map: expected ids in pairs"),
        ({"complement_map": {"7": 10, "10": 7, "20": 20}}, "complement_map: expected ids below 16"),
        ({"complement_map": {"7": 10, "10": 7}}, "complement_map: expected what the weights hold as"),
    ],
)
def test_options_that_are_not_supported_are_named(change: dict[str, Any], message: str) -> None:
    config = published_config()
    with pytest.raises(UserError, match=f"^some/config.json: .*{message}"):
        import_model(config | change, published_weights(config), "some/config.json")


def test_a_missing_key_of_the_config_is_named() -> None:
    config = published_config()
    weights = published_weights(config)
    del config["d_model"]
    with pytest.raises(UserError, match=r"some/config\.json: missing key d_model"):
        import_model(config, weights, "some/config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{MIXER}mamba_rev.A_log"), r"lack caduceus\..*layers\.1\..*mamba_rev\.A_log"),
        (
            lambda w: w.pop(f"{MIXER}mamba_fwd.in_proj.weight"),
            r"lack .*mamba_fwd\.in_proj\.weight or .*mamba_rev\.in_proj\.weight",
        ),
        (
            lambda w: w.update({f"{MIXER}mamba_rev.D": torch.ones(3)}),
            r"mamba_rev\.D: expected shape \(20,\), got \(3,\)",
        ),
        (
            lambda w: w.update({f"{MIXER}mamba_rev.out_proj.weight": torch.zeros(10, 20)}),
            r"fwd\.out_proj\.weight and .*rev\.out_proj\.weight are tied, but their weights differ",
        ),
        (
            lambda w: w.update({"lm_head.lm_head.weight": torch.zeros(16, 10)}),
            r"embedding\.weight and lm_head\.lm_head\.weight are tied, but",
        ),
        (lambda w: w.update({"score.weight": torch.zeros(2)}), r"unknown score\.weight \(1 in all\)"),
        (
            lambda w: w.update({f"{MIXER}mamba_rev.D": torch.ones(20, dtype=torch.long)}),
            r"expected torch\.float32, got torch\.int64",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Callable[[Weights], Any], message: str) -> None:
    config = published_config()
    weights = published_weights(config)
    change(weights)
    with pytest.raises(UserError, match=f"some/config.json: .*{message}"):
        import_model(config, weights, "some/config.json")
