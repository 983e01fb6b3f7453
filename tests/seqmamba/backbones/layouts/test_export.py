"""transformers loads what we export, with no key left over, and computes the same."""

from __future__ import annotations

import json

import pytest
import torch
from published_models import CASES, published_model, transformers
from safetensors.torch import load_file
from torch import nn

import seqmamba
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, export_transformers
from seqmamba.errors import UserError
from seqmamba.nn.options import Mamba2Options

pytestmark = pytest.mark.filterwarnings("ignore")
DUAL = Mamba2Options(d_state=10, head_dim=8, n_groups=2, dt_limit=(0.01, 0.5), norm_eps=0.01)
EXPORTS = {
    "mamba": ("MambaForCausalLM", {}, {}),
    "mamba-unusual": (
        "MambaForCausalLM",
        {"bias": True, "conv_bias": False, "expand": 3, "dt_rank": 5, "d_state": 7, "norm_eps": 0.01},
        {"tie_embeddings": False, "pad_vocab_multiple": 8},
    ),
    "mamba-headless": ("MambaModel", {}, {"head": False}),
    "falcon": ("FalconMambaForCausalLM", {"bc_norm": "rms", "bc_norm_eps": 0.1}, {"pad_vocab_multiple": 16}),
    "mamba2": ("Mamba2ForCausalLM", {"mixer": "mamba2", "mamba2": Mamba2Options(head_dim=8)}, {}),
    "mamba2-unusual": (
        "Mamba2ForCausalLM",
        {"mixer": "mamba2", "mamba2": DUAL, "norm_eps": 0.01, "d_conv": 3},
        {"tie_embeddings": False},
    ),
}


def language_model(stack, options):
    torch.manual_seed(0)
    backbone = BackboneConfig(**{"d_model": 24, "n_layers": 2, **stack})
    model = LanguageModel(LanguageModelConfig(backbone, **{"vocab_size": 37, **options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.mark.parametrize("case", EXPORTS)
def test_transformers_loads_it_and_gives_the_same_logits(case, tmp_path):
    name, stack, options = EXPORTS[case]
    model = language_model(stack, options)
    export_transformers(model, tmp_path / "new" / "folder")
    theirs, report = getattr(transformers, name).from_pretrained(
        tmp_path / "new" / "folder", output_loading_info=True
    )
    assert not any(report.values()), report
    ids = torch.randint(37, (2, 29))
    with torch.no_grad():
        result, expected = theirs.eval()(ids, use_cache=False), model(ids)
    got = result.logits if "logits" in result else result.last_hidden_state
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert theirs.dtype == torch.float32


@pytest.mark.parametrize("case", EXPORTS)
def test_we_load_it_bit_for_bit(case, tmp_path):
    _, stack, options = EXPORTS[case]
    model = language_model(stack, options)
    export_transformers(model, tmp_path)
    restored = seqmamba.from_pretrained(tmp_path)
    ids = torch.randint(37, (2, 29))
    with torch.no_grad():
        assert torch.equal(restored(ids), model(ids))


@pytest.mark.parametrize("case", CASES)
def test_the_file_that_came_goes_out_again(case, tmp_path):
    published_model(case).save_pretrained(tmp_path / "theirs")
    export_transformers(seqmamba.from_pretrained(tmp_path / "theirs"), tmp_path / "ours")
    expected = load_file(tmp_path / "theirs" / "model.safetensors")
    got = load_file(tmp_path / "ours" / "model.safetensors")
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name]), name
    theirs, ours = (json.loads((tmp_path / side / "config.json").read_text()) for side in ("theirs", "ours"))
    left_out = {"residual_in_fp32", "time_step_limit"}  # always true here; infinity has two spellings
    for key in ours.keys() & theirs.keys() - left_out:
        assert ours[key] == theirs[key], key


def test_files_are_readable_and_replaced(tmp_path):
    for width in (24, 16):
        export_transformers(language_model({"d_model": width}, {}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
    assert seqmamba.from_pretrained(tmp_path).config.backbone.d_model == 16


@pytest.mark.parametrize(
    ("stack", "options", "message"),
    [
        ({"direction": "bidirectional"}, {}, "direction: expected causal, got 'bidirectional'"),
        ({"mixer": "mamba+mlp"}, {}, "mixer: expected mamba in all layers or mamba2 in all layers, got"),
        ({"complex_state": True}, {}, "complex_state: expected false, got True"),
        ({"bc_norm": "learned"}, {}, "bc_norm: expected none or rms, got 'learned'"),
        ({"dt_limit": (0.0, 0.1)}, {}, r"dt_limit: expected null, got \(0.0, 0.1\)"),
        ({"norm": "layer"}, {}, "norm: expected rms, got 'layer'"),
        ({}, {"head_bias": True}, "head_bias: expected false, got True"),
        (
            {"mixer": "mamba2", "mamba2": Mamba2Options(head_dim=8, norm_eps=0.1)},
            {},
            "mamba2.norm_eps: expected the norms' epsilon 1e-05, got 0.1",
        ),
        (
            {"mixer": "mamba2", "mamba2": Mamba2Options(head_dim=8, n_groups=2, norm_groups=1)},
            {},
            "mamba2.norm_groups: expected null or n_groups, got 1",
        ),
    ],
)
def test_what_the_layouts_cannot_say_is_refused(stack, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        export_transformers(language_model(stack, options), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_another_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="model: expected a LanguageModel, got Linear"):
        export_transformers(nn.Linear(2, 2), tmp_path)
