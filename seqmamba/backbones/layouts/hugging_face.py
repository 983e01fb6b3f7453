"""What the config.json files of Hugging Face's Mamba, Falcon Mamba and Mamba-2 share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.layouts.assembly import language_model
from seqmamba.backbones.layouts.fields import Fields


def stack_options(fields: Fields) -> dict[str, Any]:
    """Read the fields of `BackboneConfig` that all three layouts have.

    Keys that only matter for initialisation, and ``residual_in_fp32``, are left aside: here the residual
    stream is always float32. A config.json may hold any number of keys that concern transformers alone.

    Raises:
        UserError: If an option is not supported.
    """
    fields.only("hidden_act", "silu", "swish")
    fields.only("quantization_config", None)
    return {
        "d_model": fields.whole("hidden_size"),
        "n_layers": fields.whole("num_hidden_layers"),
        "expand": _expansion(fields),
        "d_conv": fields.whole("conv_kernel", 4),
        "norm_eps": fields.positive("layer_norm_epsilon", 1e-5),
        "bias": fields.flag("use_bias", False),
        "conv_bias": fields.flag("use_conv_bias", True),
    }


def selective_options(fields: Fields) -> dict[str, Any]:
    """Read the fields of `BackboneConfig` that Mamba and Falcon Mamba share beyond `stack_options`."""
    rank = fields.get("time_step_rank", "auto")
    return {
        "d_state": fields.whole("state_size", 16),
        "dt_rank": None if rank == "auto" else fields.whole("time_step_rank"),
    }


def causal_model(
    fields: Fields, weights: dict[str, Tensor], stack: dict[str, Any], tied: bool
) -> LanguageModel:
    """Build the model.

    Args:
        fields: The content of config.json.
        weights: Tensors by published name.
        stack: Fields of `BackboneConfig`.
        tied: What ``tie_word_embeddings`` means when it is absent.
    """
    return language_model(
        fields,
        weights,
        stack,
        vocab_size=fields.whole("vocab_size", at_least=2),
        tie_embeddings=fields.flag("tie_word_embeddings", tied),
    )


def _expansion(fields: Fields) -> int:
    """Falcon Mamba's files give an ``expand`` that is not the model's; ``intermediate_size`` overrides it."""
    if "intermediate_size" not in fields.content:
        return fields.whole("expand", 2)
    width, inner = fields.whole("hidden_size"), fields.whole("intermediate_size")
    if inner % width:
        raise fields.refuse("intermediate_size", f"a multiple of hidden_size {width}", inner)
    return inner // width
