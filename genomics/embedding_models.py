"""Hidden states of any DNA model: one vector a sequence, or one a base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.language_reader import LanguageReader, require_finite
from genomics.masked_model import MaskedModel
from genomics.models import SequenceModel
from genomics.position_models import PositionModel
from seqmamba.backbones import Backbone, LanguageModel
from seqmamba.errors import UserError
from seqmamba.nn.block import stream_behind
from seqmamba.nn.packing import length_mask, reset_from_lengths
from seqmamba.nn.pooling import mean_pool


@runtime_checkable
class FeatureModel(Protocol):
    """A model with features for every base.

    It takes ids of `genomics.alphabet`, (batch, length), padded on the right, and the true lengths, and gives
    (batch, length, channels).
    """

    def features(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the features of every base."""


class Embedder:
    """Vectors of a model for DNA in the ids of `genomics.alphabet`.

    A model that treats both strands alike gives the mean over both, with the vectors of the other strand laid
    along the given one; so does any other model on request.

    Args:
        model: A `SequenceModel`, `PositionModel`, `MaskedModel`, `LanguageModel` over DNA or `FeatureModel`.
        layer: 0 for what enters the first layer, k for the residual stream behind the k-th; negative numbers
            count from the last one. None means what the head sees.
        both_strands: Whether to average both strands of a model that reads one.

    Attributes:
        window: Bases that the model is used to, if it tells.
        causal: Whether a vector depends on what lies left of its base only.

    Raises:
        UserError: If the model has no such layer or no features.
    """

    def __init__(self, model: nn.Module, *, layer: int | None = None, both_strands: bool = False) -> None:
        self.model = model.eval()
        self.window: int | None = None
        self.causal = False
        self._alike = both_strands
        if isinstance(model, SequenceModel):
            self.window = model.config.max_length
            self._alike = both_strands or model.config.strand in ("conjoin", "equivariant")
        elif isinstance(model, PositionModel):
            self._alike = both_strands or model.averages_strands
        elif isinstance(model, MaskedModel | LanguageModel):
            self._reader = LanguageReader(model, headless=True)
            self.causal = self._reader.causal and not both_strands
        elif not isinstance(model, FeatureModel):
            raise UserError(
                f"the model: expected one that reads DNA, got {type(model).__name__}, which reads features"
            )
        self._layer = None if layer is None else self._find(layer)

    def _find(self, layer: int) -> tuple[Backbone, int]:
        backbone = getattr(self.model, "backbone", None)
        if not isinstance(backbone, Backbone):
            raise UserError("--layer: this model has no single stack of layers")
        count = len(backbone.layers)
        if not -count <= layer <= count:
            raise UserError(f"--layer: expected {-count} to {count}, got {layer}")
        return backbone, layer if layer >= 0 else count + 1 + layer

    @torch.inference_mode()
    def pooled(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        """Return one vector a sequence: of a sequence model the one in front of its head, else the mean.

        Args:
            tokens: Ids, padded on the right.
            lengths: True lengths.
        """
        if not isinstance(self.model, SequenceModel):
            return mean_pool(self.features(tokens, lengths), lengths)
        with self._at_layer():
            vectors = self.model.embed(tokens, lengths)
            if self._alike and self.model.config.strand not in ("conjoin", "equivariant"):
                other = self.model.embed(reverse_complement_tokens(tokens, lengths), lengths)
                vectors = (vectors + other) / 2
        return require_finite(vectors)

    @torch.inference_mode()
    def features(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length dim"]:
        """Return one vector a base.

        Args:
            tokens: Ids, padded on the right.
            lengths: True lengths.

        Raises:
            UserError: If the model reads codons and not bases, or gives NaN.
        """
        with self._at_layer():
            vectors = self._features(tokens, lengths)
        return require_finite(vectors.float(), lengths)

    def _features(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        model = self.model
        if isinstance(model, MaskedModel) and model.config.equivariant:
            given, other = model.features(self._reader.ids[tokens], lengths).chunk(2, dim=-1)
            return (given + other.flip(-1)) / 2
        if not self._alike:
            return self._one_strand(tokens, lengths)
        turned = reverse_complement_tokens(tokens, lengths)
        return (self._one_strand(tokens, lengths) + mirror(self._one_strand(turned, lengths), lengths)) / 2

    def _one_strand(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        model: Any = self.model
        reset = reset_from_lengths(lengths, tokens.shape[1])
        if isinstance(model, SequenceModel):
            if model.config.frames != 1:
                raise UserError("--level base: this model reads codons in three frames, not bases")
            one_hot = model.one_hot(tokens) * length_mask(lengths, tokens.shape[1]).unsqueeze(-1)
            return model.backbone(model.place(model.stem(one_hot)), reset=reset)
        if isinstance(model, LanguageModel):
            return model.backbone(model.embedding(self._reader.ids[tokens]), reset=reset)
        if isinstance(model, PositionModel):
            return model.hidden(tokens, lengths)
        own = self._reader.ids[tokens] if isinstance(model, MaskedModel) else tokens
        return model.features(own, lengths)

    @contextmanager
    def _at_layer(self) -> Iterator[None]:
        """Let the backbone return the residual stream at the chosen layer in place of its last features."""
        if self._layer is None:
            yield
            return
        backbone, layer = self._layer
        found: list[Tensor] = []
        if layer == 0:
            watch = backbone.layers[0].register_forward_pre_hook(lambda _, given: found.append(given[0]))
        else:
            watch = backbone.layers[layer - 1].register_forward_hook(
                lambda _, given, result: found.append(stream_behind(result))
            )
        replace = backbone.register_forward_hook(lambda *_: found.pop())
        try:
            yield
        finally:
            watch.remove()
            replace.remove()
