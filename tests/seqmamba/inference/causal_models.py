"""A small language model over every causal mixer there is, over hybrids and over multi-scale stacks."""

from __future__ import annotations

import torch

from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig, MultiScaleConfig
from seqmamba.nn import AttentionOptions, Mamba2Options, S4Options
from seqmamba.nn.mixers import MIXERS

VOCABULARY = 11
GROWING = ("attention", "mamba-attention")
"""Models whose states grow with every step: attention over all that came before."""
_SMALL = {
    "d_state": 4,
    "mamba2": Mamba2Options(d_state=8, head_dim=8),
    "attention": AttentionOptions(n_heads=2),
}
_WINDOW = {**_SMALL, "attention": AttentionOptions(n_heads=2, window=5)}


def _outer(mixer, **options):
    return BackboneConfig(8, 1, mixer=mixer, **{**_SMALL, **options})


BACKBONES = {
    **{name: BackboneConfig(8, 2, mixer=name, **_SMALL) for name in MIXERS if "causal" in MIXERS[name]},
    "s4-dplr": BackboneConfig(8, 2, mixer="s4+mlp", s4=S4Options(form="dplr")),
    "mamba-attention": BackboneConfig(8, 3, mixer=("mamba", "attention+mlp", "mamba"), **_SMALL),
    "mamba-window": BackboneConfig(8, 3, mixer=("mamba", "attention+mlp", "mamba"), **_WINDOW),
    "multiscale": MultiScaleConfig(_outer("mamba"), pool=(2, 3)),
    "multiscale-both": MultiScaleConfig(
        _outer("s4+mlp", norm="layer"), pool=(3, 2), sides="both", inner_mixers=("mamba", "lstm")
    ),
}


def language_model(name, vocab_size=VOCABULARY, backbone=None):
    """Logits far from uniform, and states that live long, so that a lost one shows."""
    torch.manual_seed(0)
    model = LanguageModel(LanguageModelConfig(backbone or BACKBONES[name], vocab_size, tie_embeddings=False))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("A_log"):
                parameter.sub_(3)
            if key.endswith(("out_proj.weight", "embedding.weight")):
                parameter.mul_(3)
            if key.endswith("lm_head.weight"):
                parameter.mul_(2)
    return model


def prompt(batch, length, vocab_size=VOCABULARY):
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(batch * length))
