"""Files of published checkpoints that are damaged, hostile or of an unknown model: one sentence each."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from published_models import published_model, tokens
from safetensors.torch import load_file, save_file

import seqmamba
from seqmamba.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")
WEIGHTS = "model.safetensors"
TORCH = "pytorch_model.bin"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    model = published_model("mamba")
    model.save_pretrained(folder / "single")
    model.save_pretrained(folder / "sharded", max_shard_size="20KB")
    model.config.save_pretrained(folder / "torch")
    torch.save(model.state_dict(), folder / "torch" / TORCH)
    model.config.save_pretrained(folder / "legacy")
    torch.save(model.state_dict(), folder / "legacy" / TORCH, _use_new_zipfile_serialization=False)
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    return shutil.copytree(saved_once, tmp_path / "published")


def edit(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def refusal(folder, **download):
    with pytest.raises(UserError) as caught:
        seqmamba.from_pretrained(folder, **download)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "expected model_type out of"),
        ({"model_type": ["mamba"]}, "got ['mamba']"),
        ({"hidden_size": ...}, "config.json: missing key hidden_size"),
        ({"hidden_size": "wide"}, "config.json: hidden_size: expected a whole number >= 1, got 'wide'"),
        ({"hidden_size": None}, "config.json: hidden_size: expected a whole number >= 1, got None"),
        ({"vocab_size": 1}, "config.json: vocab_size: expected a whole number >= 2, got 1"),
        ({"hidden_act": "gelu"}, "config.json: hidden_act: expected 'silu' or 'swish', since"),
        ({"quantization_config": {"load_in_4bit": True}}, "config.json: quantization_config: expected None"),
        ({"intermediate_size": 50}, "intermediate_size: expected a multiple of hidden_size 24, got 50"),
        ({"time_step_rank": "full"}, "config.json: time_step_rank: expected a whole number >= 1, got 'full'"),
        ({"layer_norm_epsilon": 0}, "config.json: layer_norm_epsilon: expected a number > 0, got 0"),
        ({"use_bias": "yes"}, "config.json: use_bias: expected true or false, got 'yes'"),
        ({"vocab_size": 10**15}, "config.json: describes a model that cannot be built: "),
        ({"state_size": 8}, "config.json: the weights do not fit config.json: size mismatch for backbone."),
        ({"num_hidden_layers": 2}, "config.json: the weights have unknown backbone.layers.2."),
        ({"num_hidden_layers": 4}, "config.json: the weights lack backbone.layers.3."),
        ({"tie_word_embeddings": False}, "config.json: the weights lack lm_head.weight (1 in all)"),
    ],
)
def test_config(saved, changes, message):
    edit(saved / "single" / "config.json", **changes)
    assert message in refusal(saved / "single")


@pytest.mark.parametrize("limit", [[0.0], [0.5, 0.1], [-1.0, 1.0], "none", [0.0, {"__float__": "NaN"}]])
def test_bounds_of_delta(tmp_path, limit):
    published_model("mamba2").save_pretrained(tmp_path)
    edit(tmp_path / "config.json", time_step_limit=limit)
    assert "config.json: time_step_limit: expected two numbers 0 <= low < high" in refusal(tmp_path)


def test_heads_that_do_not_fill_the_width(tmp_path):
    published_model("mamba2").save_pretrained(tmp_path)
    edit(tmp_path / "config.json", num_heads=5)
    assert "config.json: num_heads: expected 48 / head_dim 8, got 5" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
@pytest.mark.parametrize("kind", ["single", "sharded", "torch", "legacy"])
def test_truncated(saved, kind, keep):
    path = max((saved / kind).glob("*model*"), key=lambda path: (path.suffix != ".json", path.name))
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(saved / kind)
    assert f"{path.name}: " in message
    assert ("expected a safetensors file" in message) == (kind in ("single", "sharded"))


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


def test_a_hostile_file_is_refused_and_not_run(saved, tmp_path):
    payload = {"backbone.norm_f.weight": Payload(tmp_path / "trace")}
    torch.save(payload, saved / "torch" / TORCH)
    assert f"{TORCH}: expected tensors that PyTorch saved, got a file that asks for posix.mkdir" in refusal(
        saved / "torch"
    )
    for protocol in (0, 2, 4):
        (saved / "torch" / TORCH).write_bytes(pickle.dumps(payload, protocol=protocol))
        assert f"{TORCH}: expected tensors that PyTorch saved, got " in refusal(saved / "torch")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "pytorch_model.pth"])
def test_other_pickles_are_refused(saved, name):
    (saved / "torch" / TORCH).rename(saved / "torch" / name)
    assert f"got {name}, which is refused" in refusal(saved / "torch")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {1: torch.ones(1)}, torch.ones(2)])
def test_a_torch_file_of_other_things(saved, content):
    torch.save(content, saved / "torch" / TORCH)
    assert f"{TORCH}: expected a dictionary of tensors by name, got " in refusal(saved / "torch")


def test_safetensors_come_first(saved):
    (saved / "single" / TORCH).write_bytes(b"never read")
    seqmamba.from_pretrained(saved / "single")


def test_no_weights(saved):
    (saved / "single" / WEIGHTS).unlink()
    assert f"has no {WEIGHTS}" in refusal(saved / "single")


def test_a_shard_is_absent(saved):
    name = sorted(path.name for path in (saved / "sharded").glob("model-*"))[1]
    (saved / "sharded" / name).unlink()
    assert f"has no {name}" in refusal(saved / "sharded")


@pytest.mark.parametrize("name", ["../single/model.safetensors", "/etc/passwd", "..", 7])
def test_an_index_cannot_leave_its_folder(saved, name):
    edit(saved / "sharded" / INDEX, weight_map={"backbone.norm_f.weight": name})
    assert f"{INDEX}: expected weight_map with one file name a tensor" in refusal(saved / "sharded")


def test_an_index_without_a_map(saved):
    edit(saved / "sharded" / INDEX, weight_map=...)
    assert f"{INDEX}: expected weight_map" in refusal(saved / "sharded")


def test_a_shard_lacks_what_the_index_lists(saved):
    index = json.loads((saved / "sharded" / INDEX).read_text())
    name = index["weight_map"]["backbone.norm_f.weight"]
    path = saved / "sharded" / name
    tensors = load_file(path)
    del tensors["backbone.norm_f.weight"]
    save_file(tensors, path)
    expected = f"{name}: lacks backbone.norm_f.weight (1 in all), which {INDEX} says is there"
    assert expected in refusal(saved / "sharded")


def change_weights(folder, **changes):
    tensors = load_file(folder / WEIGHTS)
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone__embeddings__weight": None}, "the weights lack embedding.weight"),
        ({"backbone__norm_f__weight": None}, "the weights lack backbone.norm_f.weight (1 in all)"),
        ({"extra": torch.ones(1)}, "the weights have unknown backbone.extra (1 in all)"),
        (
            {"backbone__norm_f__weight": torch.ones(23)},
            "size mismatch for backbone.norm_f.weight: expected (24,)",
        ),
        (
            {"backbone__norm_f__weight": torch.ones(24, dtype=torch.int8)},
            "backbone.norm_f.weight: expected torch.float32, got torch.int8",
        ),
        ({"lm_head__weight": torch.ones(37, 24)}, "ties lm_head.weight to the embedding, but the weights"),
        ({"norm_f__weight": torch.ones(24)}, "the weights hold one tensor under two names"),
    ],
)
def test_weights(saved, changes, message):
    change_weights(saved / "single", **changes)
    got = refusal(saved / "single")
    assert message in got
    assert "config.json: " in got


def test_a_repository_in_the_cache(saved, tmp_path):
    """The layout of the hub's cache: blobs aside, snapshots by commit, branches as references."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--mamba-tiny"
    shutil.copytree(saved / "sharded", repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    options = {"cache_dir": tmp_path, "local_files_only": True}
    model = seqmamba.from_pretrained("someone/mamba-tiny", revision="v1", **options)
    expected = seqmamba.from_pretrained(saved / "single")
    with torch.no_grad():
        assert torch.equal(model(tokens(9)), expected(tokens(9)))
    assert "config.json did not come from the hub" in refusal("someone/mamba-tiny", **options)  # branch main
    for path in (repository / "snapshots" / commit).glob("model*"):
        path.unlink()
    message = refusal("someone/mamba-tiny", revision="v1", **options)
    assert f"{WEIGHTS} did not come from the hub" in message
