"""Hugging Face's ``mamba`` layout: MambaForCausalLM, or MambaModel without its head."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.layouts.hugging_face import causal_model, selective_options, stack_options


def import_model(config: dict[str, Any], weights: dict[str, Tensor], where: str) -> LanguageModel:
    """Build the model of a checkpoint with ``model_type`` ``mamba``.

    Args:
        config: Content of config.json.
        weights: Tensors by published name, of any floating dtype.
        where: config.json's path, for messages.

    Returns:
        The model with these weights, float32.

    Raises:
        UserError: If an option is not supported or the weights do not fit.
    """
    fields = Fields(config, where)
    stack = {"mixer": "mamba", **stack_options(fields), **selective_options(fields)}
    return causal_model(fields, weights, stack, tied=True)
