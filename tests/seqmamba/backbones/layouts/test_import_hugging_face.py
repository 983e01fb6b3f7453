"""Checkpoints that transformers wrote give, loaded here, the numbers that transformers computes."""

from __future__ import annotations

import json

import pytest
import torch
from published_models import CASES, hidden_states, published_model, tokens
from safetensors.torch import load_file

import seqmamba
from seqmamba.backbones import LanguageModel
from seqmamba.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 1e-5


def save_single(model, folder):
    model.save_pretrained(folder)


def save_sharded(model, folder):
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def save_torch(model, folder):
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def save_torch_legacy(model, folder):
    """The format before archives, which cannot be mapped."""
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def save_torch_sharded(model, folder):
    model.config.save_pretrained(folder)
    tensors = list(model.state_dict().items())
    weight_map = {}
    for part in range(3):
        name = f"pytorch_model-{part + 1:05}-of-00003.bin"
        shard = dict(tensors[part::3])
        torch.save(shard, folder / name)
        weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


FORMATS = {
    "safetensors": save_single,
    "shards": save_sharded,
    "torch": save_torch,
    "torch-legacy": save_torch_legacy,
    "torch-shards": save_torch_sharded,
}


def assert_same(original, restored, length=29):
    ids = tokens(length)
    with torch.no_grad(), hidden_states(restored) as got:
        expected = original(ids, output_hidden_states=True, use_cache=False)
        y = restored(ids)
    assert len(expected.hidden_states) == len(got) == len(restored.backbone.layers) + 1
    for wanted, state in zip(expected.hidden_states, got, strict=True):
        torch.testing.assert_close(state, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    wanted = expected.logits if "logits" in expected else expected.last_hidden_state
    torch.testing.assert_close(y, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_every_hidden_state_and_the_logits(case, tmp_path):
    original = published_model(case)
    original.save_pretrained(tmp_path)
    restored = seqmamba.from_pretrained(tmp_path)
    assert type(restored) is LanguageModel
    assert not restored.training
    assert_same(original, restored)


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize("case", ["mamba", "falcon", "mamba2-unusual"])
def test_every_file_format(case, save, tmp_path):
    original = published_model(case)
    FORMATS[save](original, tmp_path)
    restored = seqmamba.from_pretrained(str(tmp_path))
    published = {
        name.replace("backbone.embeddings", "embedding"): tensor
        for name, tensor in original.state_dict().items()
    }
    assert restored.state_dict().keys() == published.keys()
    for name, tensor in restored.state_dict().items():
        assert torch.equal(tensor, published[name]), name


@pytest.mark.parametrize("case", ["mamba", "falcon", "mamba2"])
def test_a_model_without_head(case, tmp_path):
    original = published_model(case, "Model")
    original.save_pretrained(tmp_path)
    restored = seqmamba.from_pretrained(tmp_path)
    assert restored.config.head is False
    assert_same(original, restored)
    with pytest.raises(UserError, match="no head"):
        restored.logits(torch.zeros(1, 1, 24))
    restored.save_pretrained(tmp_path / "ours")
    assert_same(original, seqmamba.from_pretrained(tmp_path / "ours"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loads_as_float32(dtype, tmp_path):
    original = published_model("mamba").to(dtype)
    original.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["backbone.norm_f.weight"].dtype == dtype
    restored = seqmamba.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in restored.parameters()} == {torch.float32}
    assert_same(original.float(), restored)


@pytest.mark.parametrize("case", ["mamba", "falcon-unusual", "mamba2-unusual"])
def test_a_tied_head_is_stored_once_and_tied_again(case, tmp_path):
    original = published_model(case)
    original.save_pretrained(tmp_path / "theirs")
    assert "lm_head.weight" not in load_file(tmp_path / "theirs" / "model.safetensors")
    restored = seqmamba.from_pretrained(tmp_path / "theirs")
    assert restored.lm_head.weight is restored.embedding.weight
    restored.save_pretrained(tmp_path / "ours")
    again = seqmamba.from_pretrained(tmp_path / "ours")
    assert again.lm_head.weight is again.embedding.weight
    assert again.config == restored.config
    assert_same(original, again)


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_and_steps_equal_the_cache_of_transformers(case, tmp_path):
    original = published_model(case)
    original.save_pretrained(tmp_path)
    restored = seqmamba.from_pretrained(tmp_path)
    prompt, count = tokens(11), 20
    expected = original.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    assert expected.sequences.shape == (2, 11 + count)
    sequence, state, new = prompt, None, prompt
    with torch.no_grad():
        for wanted in expected.logits:
            logits, state = restored(new, state=state, return_state=True, last_only=True)
            torch.testing.assert_close(logits[:, -1], wanted, rtol=TOLERANCE, atol=TOLERANCE)
            new = logits.argmax(dim=-1)
            sequence = torch.cat([sequence, new], dim=1)
    assert torch.equal(sequence, expected.sequences)


def test_bounds_of_delta(tmp_path):
    """transformers bounds delta over sequences, not in single steps; here both do."""
    original = published_model("mamba2", time_step_limit=(0.3, 0.7))
    original.save_pretrained(tmp_path)
    restored = seqmamba.from_pretrained(tmp_path)
    assert restored.config.backbone.mamba2.dt_limit == (0.3, 0.7)
    assert_same(original, restored)
    unbounded = published_model("mamba2")
    with torch.no_grad():
        assert not torch.allclose(unbounded(tokens(29)).logits, restored(tokens(29)), atol=1e-2)


def test_intermediate_size_overrides_expand(tmp_path):
    """As in the published Falcon Mamba 7B, whose file says expand 16 of a model that doubles its width."""
    original = published_model("falcon")
    original.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"expand": 16}))
    restored = seqmamba.from_pretrained(tmp_path)
    assert restored.config.backbone.expand == 2
    assert_same(original, restored)


def test_first_conversions_name_the_embedding_otherwise(tmp_path):
    original = published_model("mamba")
    original.config.save_pretrained(tmp_path)
    weights = original.state_dict()
    weights["backbone.embedding.weight"] = weights.pop("backbone.embeddings.weight")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert_same(original, seqmamba.from_pretrained(tmp_path))


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu(case, tmp_path):
    original = published_model(case)
    original.save_pretrained(tmp_path)
    restored = seqmamba.from_pretrained(tmp_path, map_location="cuda")
    ids = tokens(300)
    with torch.no_grad():
        expected, got = original(ids, use_cache=False).logits, restored(ids.cuda()).cpu()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
