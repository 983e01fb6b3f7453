"""Hugging Face's ``falcon_mamba`` layout: Mamba with delta, B and C normalised."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.layouts.hugging_face import causal_model, selective_options, stack_options


def import_model(config: dict[str, Any], weights: dict[str, Tensor], where: str) -> LanguageModel:
    """Build the model of a checkpoint with ``model_type`` ``falcon_mamba`` (arXiv:2410.05355).

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
    norm = {"bc_norm": "rms", "bc_norm_eps": fields.positive("mixer_rms_eps", 1e-6)}
    stack = {"mixer": "mamba", **norm, **stack_options(fields), **selective_options(fields)}
    return causal_model(fields, weights, stack, tied=True)
