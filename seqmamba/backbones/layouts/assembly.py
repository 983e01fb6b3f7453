"""A language model from the tensors of a published one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.language_model import LanguageModel, LanguageModelConfig
from seqmamba.backbones.layouts.fields import Fields
from seqmamba.backbones.weights import load_weights
from seqmamba.errors import UserError

STACK = "backbone."
EMBEDDING = "embedding.weight"
HEAD = "lm_head.weight"
HUGGING_FACE_EMBEDDING = "embeddings.weight"


def language_model(
    fields: Fields, weights: dict[str, Tensor], stack: dict[str, Any], **options: Any
) -> LanguageModel:
    """Build a language model from tensors under the names that Hugging Face and state-spaces publish.

    Both name the blocks as we do; the embedding lies inside their ``backbone``, and beside it in ours. A file
    without the prefix ``backbone`` holds a stack that was saved alone: its model has no head.

    Args:
        fields: Where the options come from, for messages.
        weights: Tensors by published name.
        stack: Fields of `BackboneConfig`.
        **options: Further fields of `LanguageModelConfig`.

    Raises:
        UserError: If an option is refused, a tensor is missing, unknown or of another shape, or a head that
            is said to be tied differs from the embedding.
    """
    own = {_own_name(name): tensor for name, tensor in weights.items()}
    if len(own) < len(weights):
        raise UserError(f"{fields.where}: the weights hold one tensor under two names, {STACK}x and x")
    head = any(name.startswith(STACK) for name in weights)
    config = LanguageModelConfig(BackboneConfig(**stack), head=head, **options)
    if head and config.tie_embeddings and {EMBEDDING, HEAD} <= own.keys():
        if not torch.equal(own[EMBEDDING], own[HEAD]):
            raise UserError(
                f"{fields.where}: ties {HEAD} to the embedding, but the weights of the two differ",
                hint="tie_word_embeddings (tie_embeddings in state-spaces' files) set to false keeps both",
            )
        del own[HEAD]
    model = LanguageModel(config)
    load_weights(model, own, fields.where)
    return model


def _own_name(name: str) -> str:
    inner = name.removeprefix(STACK)
    if inner in (HUGGING_FACE_EMBEDDING, EMBEDDING):
        return EMBEDDING
    return name if name == HEAD else STACK + inner
