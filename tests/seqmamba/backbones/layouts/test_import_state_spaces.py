"""state-spaces' original files: what transformers' models hold, under the names and options of mamba-ssm."""

from __future__ import annotations

import json

import pytest
import torch
from published_models import VOCABULARY, hidden_states, published_model, tokens
from torch.nn import functional as F

import seqmamba
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import AttentionOptions

pytestmark = pytest.mark.filterwarnings("ignore")
MULTIPLE = 16
# As in the published files of the first and of the second generation.
FIRST = {"rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True}
SECOND = {**FIRST, "d_intermediate": 0, "attn_layer_idx": [], "attn_cfg": {}, "tie_embeddings": True}
SIZES = {"d_model": 24, "n_layer": 3, "vocab_size": VOCABULARY, "pad_vocab_size_multiple": MULTIPLE}
MAMBA2 = {"layer": "Mamba2", "headdim": 8, "d_state": 7, "ngroups": 3, "chunk_size": 8}
CASES = {
    "mamba": ("mamba", {}, {**FIRST, "ssm_cfg": {}}),
    "mamba-unusual": (
        "mamba-unusual",
        {"layer_norm_epsilon": 1e-5},
        {
            **SECOND,
            "ssm_cfg": {
                "layer": "Mamba1",
                "bias": True,
                "conv_bias": False,
                "d_conv": 3,
                "dt_min": 0.01,
                "expand": 3,
                "dt_rank": 5,
                "d_state": 7,
                "use_fast_path": False,
            },
            "tie_embeddings": False,
        },
    ),
    "mamba2": ("mamba2", {"state_size": 7, "n_groups": 3}, {**SECOND, "ssm_cfg": MAMBA2}),
    "mamba2-bounded": (
        "mamba2",
        {"state_size": 7, "n_groups": 3, "time_step_limit": (0.3, 0.7)},
        {**SECOND, "ssm_cfg": {**MAMBA2, "dt_limit": [0.3, 0.7], "A_init_range": [1, 16]}},
    ),
}


def save_original(weights, config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(weights, folder / "pytorch_model.bin")


def state_spaces_weights(original, config):
    """Rename as in the published files: both embedding and head are there, padded, the tied ones twice."""
    padding = (0, 0, 0, -VOCABULARY % MULTIPLE)
    weights = original.state_dict()
    weights["backbone.embedding.weight"] = F.pad(weights.pop("backbone.embeddings.weight"), padding)
    head = F.pad(weights["lm_head.weight"], padding, value=9.0)
    tied = config.get("tie_embeddings", True)
    weights["lm_head.weight"] = weights["backbone.embedding.weight"] if tied else head
    return weights


@pytest.mark.parametrize("case", CASES)
def test_every_hidden_state_and_the_logits(case, tmp_path):
    name, changes, config = CASES[case]
    config = {**SIZES, **config}
    original = published_model(name, **changes, tie_word_embeddings=config.get("tie_embeddings", True))
    save_original(state_spaces_weights(original, config), config, tmp_path)
    restored = seqmamba.from_pretrained(tmp_path)
    assert restored.embedding.weight.shape[0] == 48
    ids = tokens(29)
    with torch.no_grad(), hidden_states(restored) as got:
        expected = original(ids, output_hidden_states=True, use_cache=False)
        logits = restored(ids)
    for wanted, state in zip(expected.hidden_states, got, strict=True):
        torch.testing.assert_close(state, wanted, rtol=1e-5, atol=1e-5)
    assert logits.shape[-1] == VOCABULARY
    torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-5)


HYBRID = {
    **SIZES,
    **SECOND,
    "n_layer": 4,
    "d_intermediate": 100,
    "ssm_cfg": {"layer": "Mamba1"},
    "attn_layer_idx": [1, 3],
    "attn_cfg": {
        "num_heads": 4,
        "num_heads_kv": 2,
        "head_dim": 8,
        "rotary_emb_dim": 4,
        "d_conv": 3,
        "causal": True,
        "qkv_proj_bias": False,
        "out_proj_bias": False,
    },
}


def hybrid():
    torch.manual_seed(0)
    attention = AttentionOptions(n_heads=4, n_kv_heads=2, head_dim=8, rotary_dim=4, d_conv=3)
    mixer = ("mamba+mlp", "attention+mlp", "mamba+mlp", "attention+mlp")
    stack = BackboneConfig(d_model=24, n_layers=4, mixer=mixer, attention=attention, mlp_ratio=128 / 24)
    return LanguageModel(
        LanguageModelConfig(stack, vocab_size=VOCABULARY, pad_vocab_multiple=MULTIPLE)
    ).eval()


def hybrid_weights():
    weights = hybrid().state_dict()
    weights["backbone.embedding.weight"] = weights.pop("embedding.weight")
    return weights


def test_a_hybrid_with_mlps(tmp_path):
    """Which layers are attention, and how wide the MLPs are, follow from config.json."""
    save_original(hybrid_weights(), HYBRID, tmp_path)
    restored, expected = seqmamba.from_pretrained(tmp_path), hybrid()
    assert [type(layer.mixer).__name__ for layer in restored.backbone.layers] == ["Mamba", "Attention"] * 2
    assert restored.config == expected.config
    with torch.no_grad():
        assert torch.equal(restored(tokens(13)), expected(tokens(13)))


def test_layer_norm(tmp_path):
    config = {**SIZES, **FIRST, "rms_norm": False, "ssm_cfg": {}}
    stack = BackboneConfig(d_model=24, n_layers=3, norm="layer")
    model = LanguageModel(LanguageModelConfig(stack, vocab_size=VOCABULARY, pad_vocab_multiple=MULTIPLE))
    weights = model.state_dict()
    weights["backbone.embedding.weight"] = weights.pop("embedding.weight")
    save_original(weights, config, tmp_path)
    assert seqmamba.from_pretrained(tmp_path).config == model.config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "config.json: unknown key colour"),
        ({"d_model": "wide"}, "config.json: d_model: expected a whole number >= 1, got 'wide'"),
        ({"n_layer": 0}, "config.json: n_layer: expected a whole number >= 1, got 0"),
        ({"rms_norm": 1}, "config.json: rms_norm: expected true or false, got 1"),
        ({"ssm_cfg": []}, "config.json: ssm_cfg: expected an object, got []"),
        ({"ssm_cfg": {"layer": "Mamba3"}}, "ssm_cfg: layer: expected 'Mamba1' or 'Mamba2'"),
        ({"ssm_cfg": {"headdim": 8}}, "ssm_cfg: unknown key headdim"),
        ({"ssm_cfg": {**MAMBA2, "rmsnorm": False}}, "ssm_cfg: rmsnorm: expected True"),
        ({"ssm_cfg": {**MAMBA2, "norm_before_gate": True}}, "ssm_cfg: norm_before_gate: expected False"),
        ({"ssm_cfg": {**MAMBA2, "D_has_hdim": True}}, "ssm_cfg: D_has_hdim: expected False"),
        ({"ssm_cfg": {**MAMBA2, "d_ssm": 8}}, "ssm_cfg: d_ssm: expected None or 48"),
        ({"ssm_cfg": {**MAMBA2, "dt_limit": [1, 0.5]}}, "ssm_cfg: dt_limit: expected two numbers"),
        ({"ssm_cfg": {**MAMBA2, "headdim": 7}}, "config.json: mamba2.head_dim: expected a divisor of"),
        ({"attn_layer_idx": [4]}, "attn_layer_idx: expected a list of layers below 4, got [4]"),
        ({"attn_cfg": {**HYBRID["attn_cfg"], "causal": False}}, "attn_cfg: causal: expected true"),
        (
            {
                "attn_cfg": {**HYBRID["attn_cfg"], "d_conv": 4},
                "ssm_cfg": {"layer": "Mamba1", "conv_bias": False},
            },
            "attn_cfg: d_conv: expected 0 where ssm_cfg has no conv_bias",
        ),
        ({"attn_cfg": {**HYBRID["attn_cfg"], "rotary_emb_dim": 10}}, "attention.rotary_dim"),
        ({"attn_cfg": {**HYBRID["attn_cfg"], "qkv_proj_bias": True}}, "qkv_proj_bias: expected what ssm_cfg"),
        ({"attn_cfg": {**HYBRID["attn_cfg"], "window": 4}}, "attn_cfg: unknown key window"),
        (
            {"attn_cfg": {**HYBRID["attn_cfg"], "num_heads_kv": 3}},
            "config.json: attention.n_kv_heads: expected",
        ),
        (
            {"ssm_cfg": {"bias": True}, "attn_layer_idx": []},
            "d_intermediate: expected 0 where ssm_cfg has bias",
        ),
        ({"tie_embeddings": False}, "config.json: the weights lack lm_head.weight (1 in all)"),
    ],
)
def test_what_is_not_supported_is_one_sentence(changes, message, tmp_path):
    weights = hybrid_weights()
    weights.pop("lm_head.weight")
    save_original(weights, {**HYBRID, **changes}, tmp_path)
    with pytest.raises(UserError) as caught:
        seqmamba.from_pretrained(tmp_path)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.gpu
@pytest.mark.parametrize("layer", ["Mamba1", "Mamba2"])
def test_the_package_itself(layer, tmp_path):
    """Its fused kernels, where it is installed beside a GPU; they multiply in tf32."""
    theirs = pytest.importorskip("mamba_ssm.models.mixer_seq_simple", exc_type=ImportError)
    ssm = {"layer": layer, **({"headdim": 32} if layer == "Mamba2" else {})}
    config = theirs.MambaConfig(d_model=128, n_layer=3, vocab_size=VOCABULARY, ssm_cfg=ssm)
    torch.manual_seed(0)
    original = theirs.MambaLMHeadModel(config, device="cuda").eval()
    original.save_pretrained(tmp_path)
    restored = seqmamba.from_pretrained(tmp_path, map_location="cuda")
    ids = tokens(300).cuda()
    with torch.no_grad():
        expected, got = original(ids).logits[..., :VOCABULARY], restored(ids)
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3)
