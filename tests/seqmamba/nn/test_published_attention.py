"""Attention and the layers that Zamba shares, beside transformers' own with the same weights."""

from __future__ import annotations

import pytest
import torch

from seqmamba.backbones import Backbone, BackboneConfig
from seqmamba.nn import Attention, AttentionOptions, MixerConfig

transformers = pytest.importorskip("transformers")
LENGTH = 40


def fused(attention: torch.nn.Module, query_scale: float = 1.0) -> dict[str, torch.Tensor]:
    """The weights of separate projections in the order of `in_proj`."""
    parts = [attention.q_proj.weight * query_scale, attention.k_proj.weight, attention.v_proj.weight]
    return {"in_proj.weight": torch.cat(parts).detach(), "out_proj.weight": attention.o_proj.weight.detach()}


@pytest.mark.parametrize("start", [0, 7000])
def test_attention_is_llamas(start: int) -> None:
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaConfig, LlamaRotaryEmbedding

    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, num_key_value_heads=2)
    config._attn_implementation = "sdpa"
    theirs, rotary = LlamaAttention(config, 0), LlamaRotaryEmbedding(config)
    ours = Attention(MixerConfig(32, attention=AttentionOptions(n_heads=4, n_kv_heads=2)))
    ours.load_state_dict(fused(theirs))
    x = torch.randn(2, LENGTH, 32)
    positions = torch.arange(start, start + LENGTH)[None]
    expected, _ = theirs(x, rotary(x, positions), None)
    torch.testing.assert_close(ours(x)[0], expected, atol=1e-4 if start else 1e-6, rtol=0)


def test_the_shared_layers_are_zambas() -> None:
    from transformers.models.zamba.modeling_zamba import ZambaAttentionDecoderLayer, ZambaConfig

    torch.manual_seed(0)
    config = ZambaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_act="silu",  # of its MLP; the published 7B model has gelu
    )
    config._attn_implementation = "sdpa"
    theirs = ZambaAttentionDecoderLayer(config)
    attention = AttentionOptions(n_heads=4, n_kv_heads=2, rotary=False)
    ours = Backbone(BackboneConfig(32, 1, mixer="shared_attention", attention=attention)).shared_attention
    assert ours is not None
    # it scales the scores as if a head had half its channels
    ours.mixer.load_state_dict(fused(theirs.self_attn, query_scale=2**0.5))
    mlp = theirs.feed_forward
    with torch.no_grad():
        ours.mlp.fc1.weight.copy_(torch.cat((mlp.up_proj.weight, mlp.gate_proj.weight)))
        ours.mlp.fc2.weight.copy_(mlp.down_proj.weight)
        for mine, other in ((ours.norm, theirs.input_layernorm), (ours.norm2, theirs.pre_ff_layernorm)):
            mine.weight.copy_(other.weight.uniform_(0.5, 1.5))
    x, start = torch.randn(2, 2, LENGTH, 32)
    torch.testing.assert_close(ours(x, start)[0], theirs(x, start, 0), atol=1e-5, rtol=0)
