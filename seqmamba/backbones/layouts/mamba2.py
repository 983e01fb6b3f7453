"""Hugging Face's ``mamba2`` layout: Mamba2ForCausalLM, or Mamba2Model without its head."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.layouts.hugging_face import causal_model, stack_options
from seqmamba.nn.options import Mamba2Options, is_number

_NO_LIMIT = (0.0, math.inf)
_LARGEST = torch.finfo(torch.float32).max


def import_model(config: dict[str, Any], weights: dict[str, Tensor], where: str) -> LanguageModel:
    """Build the model of a checkpoint with ``model_type`` ``mamba2``.

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
    stack = stack_options(fields)
    heads, head_dim = fields.whole("num_heads", 128), fields.whole("head_dim", 64)
    inner = stack["expand"] * stack["d_model"]
    if heads * head_dim != inner:
        raise fields.refuse("num_heads", f"{inner} / head_dim {head_dim}", heads)
    options = Mamba2Options(
        d_state=fields.whole("state_size", 128),
        head_dim=head_dim,
        n_groups=fields.whole("n_groups", 8),
        dt_limit=delta_limit(fields, "time_step_limit"),
        chunk_size=fields.whole("chunk_size", 256),
        norm_eps=stack["norm_eps"],
    )
    return causal_model(fields, weights, {"mixer": "mamba2", "mamba2": options, **stack}, tied=False)


def delta_limit(fields: Fields, key: str) -> tuple[float, float] | None:
    """Read bounds of delta; the upper one may be infinite, in JSON's spelling or in that of transformers.

    Args:
        fields: Where they are.
        key: Their name there.

    Returns:
        The bounds, or ``None`` where they bound nothing.

    Raises:
        UserError: If they are anything else.
    """
    given = fields.get(key, _NO_LIMIT)
    if isinstance(given, list | tuple) and len(given) == 2:
        low, high = (math.inf if bound == {"__float__": "Infinity"} else bound for bound in given)
        if (low, high) == _NO_LIMIT:
            return None
        if is_number(low) and (is_number(high) or high == math.inf) and 0 <= low < high:
            return float(low), min(float(high), _LARGEST)
    raise fields.refuse(key, "two numbers 0 <= low < high", given)
