"""The mixers of Hugging Face transformers, run as their own PyTorch code runs them."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")


def published_mixer(family: str, name: str, **sizes: Any) -> tuple[nn.Module, Any]:
    """A mixer with random weights, and its config."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{"hidden_size": 16, "num_hidden_layers": 1} | sizes)
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    classes = {kind: getattr(module, f"{name}{kind}", None) for kind in ("Mixer", "MambaMixer")}
    if classes["Mixer"] is None:
        mixer = classes["MambaMixer"](config, 0)
    else:  # its own initialisation runs before all parameters exist, in Falcon Mamba
        mixer = classes["Mixer"](config, 0, initialize_mixer_weights=False)
    with torch.no_grad():
        for parameter_name, parameter in mixer.named_parameters():
            centre = 1.0 if "norm" in parameter_name else 0.0
            parameter.normal_(centre, 0.3)
    return mixer.eval(), config


@torch.no_grad()
def run_published(mixer: nn.Module, config: Any, x: Tensor, prefill: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prefill, then decode token by token; gives the outputs and the states after the last token.

    Returns:
        y (batch, length, dim); the convolution's inputs (batch, dim, width), which hold the current one too;
        the scan's state as it keeps it.
    """
    cache = transformers.DynamicCache(config=config)
    steps = [x[:, t : t + 1] for t in range(prefill, x.shape[1])]
    outputs = [mixer(part, cache) for part in (x[:, :prefill], *steps)]
    y = torch.cat(outputs, dim=1)
    return y, cache.get_conv_state(0, state_idx=0), cache.get_recurrent_state(0, state_idx=0)
