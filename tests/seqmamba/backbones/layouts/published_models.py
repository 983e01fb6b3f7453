"""transformers' own models with random weights: the originals that imports are compared with."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba.nn.block import stream_behind

os.environ["HF_HUB_OFFLINE"] = "1"
if importlib.util.find_spec("causal_conv1d") is not None:
    pytest.skip("transformers gives causal-conv1d's kernels tensors on the CPU", allow_module_level=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

VOCABULARY = 37
_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 3}
_HEADS = {"num_heads": 6, "head_dim": 8, "n_groups": 3, "chunk_size": 8}
_SPECIAL = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
_UNUSUAL = {
    "use_bias": True,
    "use_conv_bias": False,
    "conv_kernel": 3,
    "layer_norm_epsilon": 0.01,
    "residual_in_fp32": False,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("Mamba", {}),
    "mamba-unusual": (
        "Mamba",
        {**_UNUSUAL, "expand": 3, "time_step_rank": 5, "state_size": 7, "tie_word_embeddings": False},
    ),
    "falcon": ("FalconMamba", {"tie_word_embeddings": False}),
    "falcon-unusual": (
        "FalconMamba",
        {**_UNUSUAL, "expand": 1, "time_step_rank": 3, "state_size": 5, "mixer_rms_eps": 0.1},
    ),
    "mamba2": ("Mamba2", {**_HEADS, "n_groups": 1, "state_size": 9}),
    "mamba2-unusual": (
        "Mamba2",
        {**_UNUSUAL, **_HEADS, "state_size": 7, "tie_word_embeddings": True},
    ),
}


def published_model(case: str, kind: str = "ForCausalLM", **changes: Any) -> Any:
    """Build one of transformers' models, with no parameter at its initial value of zero or one."""
    name, options = CASES[case]
    config = getattr(transformers, f"{name}Config")(**{**_SIZES, **_SPECIAL, **options, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, name + kind)(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def tokens(length: int, batch: int = 2) -> Tensor:
    """Draw token ids."""
    return torch.randint(VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


@contextmanager
def hidden_states(model: Any) -> Iterator[list[Tensor]]:
    """Collect what every block, and the last norm, of one of our models puts out."""
    states: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: states.append(stream_behind(output)))
        for layer in model.backbone.layers
    ]
    hooks.append(model.backbone.norm_f.register_forward_hook(lambda _, __, output: states.append(output[0])))
    yield states
    for hook in hooks:
        hook.remove()
