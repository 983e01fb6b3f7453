from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import seqmamba
from seqmamba import Backbone, BackboneConfig
from seqmamba.backbones import HubModel
from seqmamba.errors import UserError


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "model"
    backbone = Backbone(BackboneConfig(d_model=8, n_layers=2, direction="bidirectional", mixer=("mamba",)))
    backbone.save_pretrained(folder)
    return backbone, folder


@pytest.fixture
def saved(saved_once, tmp_path):
    backbone, folder = saved_once
    return backbone, shutil.copytree(folder, tmp_path / "copy")


def edit_config(folder, **changes):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def refusal(folder):
    with pytest.raises(UserError) as caught:
        seqmamba.from_pretrained(folder)
    assert "\n" not in caught.value.message
    return str(caught.value)


@pytest.mark.parametrize("load", [seqmamba.from_pretrained, Backbone.from_pretrained])
def test_round_trip(saved, load):
    backbone, folder = saved
    restored = load(folder)
    assert type(restored) is Backbone
    assert restored.config == backbone.config
    assert not restored.training
    for (name, expected), (other, got) in zip(
        backbone.named_parameters(), restored.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(expected, got)
        assert hasattr(expected, "_no_weight_decay") == hasattr(got, "_no_weight_decay")
    x = torch.randn(1, 6, 8)
    assert torch.equal(backbone.eval()(x), restored(x))


def test_saved_files(saved):
    _, folder = saved
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    content = json.loads((folder / "config.json").read_text())
    assert content["architecture"] == "Backbone"
    assert content["seqmamba_version"] == seqmamba.__version__
    assert content["d_model"] == 8


def test_weights_are_as_readable_as_the_config(saved):
    _, folder = saved
    modes = {(folder / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1


def test_a_failed_write_is_one_sentence(saved):
    backbone, folder = saved
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(UserError, match=r"model\.safetensors: could not be written"):
        backbone.save_pretrained(folder)


def test_saving_again_replaces(saved):
    _, folder = saved
    other = Backbone(BackboneConfig(d_model=4, n_layers=1))
    other.save_pretrained(folder)
    assert seqmamba.from_pretrained(folder).config == other.config


@dataclass(frozen=True)
class PairConfig:
    inner: BackboneConfig
    names: tuple[str, ...]


class Pair(nn.Module, HubModel):
    """Two layers with one weight, and a config within a config."""

    config_class = PairConfig

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.inner.d_model, config.inner.d_model)
        self.second = nn.Linear(config.inner.d_model, config.inner.d_model)
        self.second.weight = self.first.weight


def test_tied_parameters_and_nested_configs(tmp_path):
    pair = Pair(PairConfig(BackboneConfig(d_model=4, n_layers=1), ("a", "b")))
    pair.save_pretrained(tmp_path)
    assert len(load_file(tmp_path / "model.safetensors")) == 3
    restored = Pair.from_pretrained(tmp_path)
    assert restored.config == pair.config
    assert restored.first.weight is restored.second.weight
    assert torch.equal(restored.second.weight, pair.first.weight)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"d_model": 4}, "config.json: inner: missing key n_layers for BackboneConfig"),
        (
            {"d_model": 4, "n_layers": -1},
            "config.json: inner: n_layers: expected a whole number >= 1, got -1",
        ),
        (7, "config.json: inner: expected an object, got 7"),
    ],
)
def test_a_nested_problem_is_named(tmp_path, inner, message):
    Pair(PairConfig(BackboneConfig(d_model=4, n_layers=1), ("a", "b"))).save_pretrained(tmp_path)
    edit_config(tmp_path, inner=inner)
    with pytest.raises(UserError, match=re.escape(message)):
        Pair.from_pretrained(tmp_path)


def test_no_such_folder(tmp_path):
    assert "there is no such folder" in refusal(tmp_path / "absent")


def test_hub_failure_is_one_sentence(tmp_path):
    with pytest.raises(
        UserError, match=r"someone/absent: no such folder, and config\.json did not come"
    ) as caught:
        seqmamba.from_pretrained("someone/absent", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in caught.value.message


def test_a_file_is_not_a_folder(saved):
    _, folder = saved
    assert "expected a model folder" in refusal(folder / "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_file_absent(saved, name):
    _, folder = saved
    (folder / name).unlink()
    assert f"has no {name}" in refusal(folder)


class Payload:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "last.ckpt", "model.pt"])
def test_pickle_beside_config_is_refused(saved, name):
    _, folder = saved
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Payload()))
    message = refusal(folder)
    assert name in message
    assert "refused" in message


def test_pickle_under_the_safetensors_name_is_refused(saved):
    _, folder = saved
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload()))
    assert "model.safetensors: expected a safetensors file" in refusal(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights(saved, keep):
    _, folder = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors: expected a safetensors file" in refusal(folder)


def test_weights_lack_a_key(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors")
    del weights["norm_f.weight"]
    save_file(weights, folder / "model.safetensors")
    assert "the weights lack norm_f.weight (1 in all)" in refusal(folder)


def test_weights_have_an_unknown_key(saved):
    _, folder = saved
    weights = load_file(folder / "model.safetensors") | {f"extra.{i}": torch.ones(1) for i in range(5)}
    save_file(weights, folder / "model.safetensors")
    assert "have unknown extra.0, extra.1, extra.2, ... (5 in all)" in refusal(folder)


def test_weights_of_another_size(saved):
    _, folder = saved
    edit_config(folder, d_model=16)
    assert "the weights do not fit config.json: size mismatch" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, r"config.json: unknown key colour for BackboneConfig"),
        ({"d_model": ...}, r"config.json: missing key d_model for BackboneConfig"),
        ({"d_model": "wide"}, r"config.json: d_model: expected a whole number >= 1, got 'wide'"),
        ({"d_model": 10**15}, r"config.json: describes a model that cannot be built: "),
        ({"architecture": "Elsewhere"}, r"expected architecture out of Backbone, .*got 'Elsewhere'"),
        ({"architecture": ["Backbone"]}, r"expected architecture out of Backbone, .*got \['Backbone'\]"),
        ({"architecture": ...}, r"expected architecture out of Backbone, .*got None"),
    ],
)
def test_bad_config(saved, changes, message):
    _, folder = saved
    edit_config(folder, **changes)
    with pytest.raises(UserError, match=message):
        seqmamba.from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_config_is_not_json(saved, text):
    _, folder = saved
    (folder / "config.json").write_text(text)
    assert "config.json: expected a JSON" in refusal(folder)


def test_another_class_is_refused(saved):
    _, folder = saved
    edit_config(folder, architecture="SequenceModel")
    with pytest.raises(UserError, match="expected architecture 'Backbone', got 'SequenceModel'"):
        Backbone.from_pretrained(folder)
