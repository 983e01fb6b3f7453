"""A model over token ids: embedding, backbone, one logit for each token of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.backbones.build import build_backbone
from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.hub import HubModel
from seqmamba.backbones.isotropic import Backbone
from seqmamba.backbones.multiscale_config import MultiScaleConfig
from seqmamba.backbones.state import BackboneState
from seqmamba.errors import UserError
from seqmamba.nn.options import require_bool, require_whole
from seqmamba.nn.slices import SLICE, in_slices

_EMBEDDING_STD = 0.02  # as in the published language models


@dataclass(frozen=True)
class LanguageModelConfig:
    """What a `LanguageModel` is made of.

    Args:
        backbone: The stack between embedding and head.
        vocab_size: Token ids; for waveforms, quantisation levels.
        tie_embeddings: Whether the head's weight is the embedding's.
        head_bias: Whether the head has a bias.
        pad_vocab_multiple: Embedding and head have this many rows, or the next multiple of it; the logits of
            rows beyond ``vocab_size`` are not returned.
        head: Whether there is a head; without one the model returns the backbone's features.

    Raises:
        UserError: If a field is out of range.
    """

    backbone: BackboneConfig | MultiScaleConfig
    vocab_size: int
    tie_embeddings: bool = True
    head_bias: bool = False
    pad_vocab_multiple: int = 1
    head: bool = True

    def __post_init__(self) -> None:
        require_whole("vocab_size", self.vocab_size, 2)
        require_whole("pad_vocab_multiple", self.pad_vocab_multiple)
        for name in ("tie_embeddings", "head_bias", "head"):
            require_bool(name, getattr(self, name))

    @property
    def n_rows(self) -> int:
        """Rows of the embedding: the vocabulary with its padding."""
        return -(-self.vocab_size // self.pad_vocab_multiple) * self.pad_vocab_multiple


class LanguageModel(nn.Module, HubModel):
    """Embedding, backbone and head: next-token logits if causal, masked-token logits if bidirectional.

    Args:
        config: What to build.
    """

    config_class = LanguageModelConfig

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.d_model
        self.embedding = nn.Embedding(config.n_rows, width)
        nn.init.normal_(self.embedding.weight, std=_EMBEDDING_STD)
        self.backbone = build_backbone(config.backbone)
        self.lm_head = nn.Linear(width, config.n_rows, bias=config.head_bias) if config.head else None
        if self.lm_head is not None and config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight

    @overload
    def forward(
        self,
        tokens: Tensor,
        *,
        reset: Tensor | None = ...,
        state: Any = ...,
        return_state: Literal[False] = ...,
        last_only: bool = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        tokens: Tensor,
        *,
        reset: Tensor | None = ...,
        state: Any = ...,
        return_state: Literal[True],
        last_only: bool = ...,
    ) -> tuple[Tensor, BackboneState]: ...

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: BackboneState | None = None,
        return_state: bool = False,
        last_only: bool = False,
    ) -> Float[Tensor, "batch _ vocabulary"] | tuple[Float[Tensor, "batch _ vocabulary"], BackboneState]:
        """Score every token at every position.

        Args:
            tokens: Token ids below ``vocab_size``.
            reset: See `Backbone.forward`.
            state: See `Backbone.forward`.
            return_state: See `Backbone.forward`.
            last_only: Whether to return the last position's logits only: all that a prefill needs.

        Returns:
            Logits (batch, length or 1, vocab_size), without a head the features instead, and the new state if
            asked for.

        Raises:
            UserError: If the tokens are not whole numbers (batch, length >= 1).
        """
        self._check(tokens)
        hidden = self.backbone(
            self.embedding(tokens.long()), reset=reset, state=state, return_state=return_state
        )
        features, new_state = hidden if return_state else (hidden, None)
        features = features[:, -1:] if last_only else features
        y = features if self.lm_head is None else self.logits(features)
        return (y, cast(BackboneState, new_state)) if return_state else y

    def judge(
        self,
        tokens: Int[Tensor, "batch length"],
        function: Callable[..., Any],
        *beside: Shaped[Tensor, "batch length *_"],
        reset: Bool[Tensor, "batch length"] | None = None,
    ) -> Any:
        """Apply a function to the logits, of which a slice is held at a time; see `in_slices`.

        Args:
            tokens: Token ids.
            function: Takes the logits of a slice, and the slices of `beside`, for instance of targets.
            *beside: What else it takes.
            reset: See `Backbone.forward`.

        Returns:
            What the function gives for the whole sequences.

        Raises:
            UserError: If the tokens do not fit, or the model has no head.
        """
        self._check(tokens)
        backbone, x = self.backbone, self.embedding(tokens.long())
        if not isinstance(backbone, Backbone) or tokens.shape[1] <= SLICE:
            features = backbone(x, reset=reset)
            return in_slices(lambda part, *rest: function(self.logits(part), *rest), features, *beside)
        hidden, branch, _ = backbone.run_stream(x, reset)

        def of_stream(part: Tensor, waiting: Tensor | None, *rest: Tensor) -> Any:
            return function(self.logits(backbone.normalise(part, waiting)), *rest)

        return in_slices(of_stream, hidden, branch, *beside)

    @staticmethod
    def _check(tokens: Tensor) -> None:
        if tokens.ndim != 2 or tokens.shape[1] == 0 or tokens.is_floating_point() or tokens.is_complex():
            got = f"{tokens.dtype} {tuple(tokens.shape)}"
            raise UserError(f"tokens: expected whole numbers (batch, length >= 1), got {got}")

    def logits(self, features: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length vocabulary"]:
        """Apply the head to the backbone's features.

        Raises:
            UserError: If the model has no head.
        """
        if self.lm_head is None:
            raise UserError("this model has no head and gives features instead of logits")
        return F.linear(features, self.lm_head.weight, self.lm_head.bias)[..., : self.config.vocab_size]

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> BackboneState:
        """Return the state before the first token; see `Backbone.init_state`."""
        return self.backbone.init_state(batch_size, device)

    def example_input(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw random token ids; see `HubModel.example_input`."""
        return torch.randint(self.config.vocab_size, (batch, length), generator=generator)
