"""Reading DNA with a language model, masked or causal, whatever its vocabulary.

With p the probability that the model gives to A, C, G and T in a place, and b its base, the scores of the
place are ``log_likelihood``, ln p(b), and ``entropy``, the sum of -p log2 p, in bits: 0 where the model is
sure, 2 where it knows nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genomics.alphabet import VOCAB_SIZE, A, N, T
from genomics.masked_model import MaskedModel
from genomics.vocabulary import CADUCEUS, Vocabulary
from seqmamba.backbones import LanguageModel
from seqmamba.errors import UserError
from seqmamba.nn.packing import length_mask, reset_from_lengths

SCORES = ("log_likelihood", "entropy")
"""Names of the scores of a place."""


class LanguageReader:
    """Logits of A, C, G and T at every position of DNA given in the ids of `genomics.alphabet`.

    Args:
        model: A `MaskedModel`, or a `LanguageModel` over the ids of `genomics.alphabet`.
        headless: Whether a model without a head is fine: only `ids` will be used.

    Attributes:
        ids: The model's id of every id of `genomics.alphabet`.
        causal: Whether the model sees the left only.
        averages_strands: Whether the model reads both strands by itself.

    Raises:
        UserError: If the model is none of these, has no head, or does not say which ids are bases.
    """

    def __init__(self, model: nn.Module, *, headless: bool = False) -> None:
        if isinstance(model, MaskedModel):
            vocabulary = model.config.vocabulary
            self.causal = False
            self.averages_strands = model.config.equivariant
        elif isinstance(model, LanguageModel) and (headless or model.config.head):
            vocabulary = CADUCEUS
            self.causal = _is_causal(model)
            self.averages_strands = False
            if model.config.vocab_size <= N:
                raise UserError(
                    f"the model: expected at least {N + 1} token ids, those of DNA letters, "
                    f"got {model.config.vocab_size}"
                )
        else:
            raise UserError(
                f"the model: expected a sequence model, a language model over DNA or a model with a head for "
                f"every position, got {type(model).__name__}",
                hint="`seqmamba genomics embed` takes models without a head",
            )
        self.model = model
        self.vocabulary: Vocabulary = vocabulary
        ids = torch.from_numpy(vocabulary.from_alphabet(np.arange(VOCAB_SIZE, dtype=np.uint8))).long()
        device = next(model.parameters()).device
        self.ids = ids.to(device)
        self.bases = ids[A : T + 1].to(device)

    def __call__(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length 4"]:
        """Return what the model expects in every place, or next, if it is causal."""
        own = self.ids[tokens]
        if isinstance(self.model, MaskedModel):
            return self.pick(self.model(own, lengths))
        reset = None if self.causal else reset_from_lengths(lengths, tokens.shape[1])
        return self.pick(self.model(own, reset=reset))

    def pick(self, logits: Float[Tensor, "batch length vocabulary"]) -> Float[Tensor, "batch length 4"]:
        """Return the logits of A, C, G and T."""
        return logits[..., self.bases]


def language_scores(
    logits: Float[Tensor, "batch length 4"], truth: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length 2"]:
    """Return the `SCORES` of every position.

    Args:
        logits: Of A, C, G and T in this place.
        truth: Ids of `genomics.alphabet`; the score of a place without a known base has no meaning.
    """
    log_p = logits.float().log_softmax(dim=-1)
    likelihood = log_p.gather(-1, (truth.long() - A).clamp(0, T - A)[..., None])[..., 0]
    entropy = -(log_p.exp() * log_p).sum(dim=-1) / math.log(2)
    return torch.stack((likelihood, entropy), dim=-1)


def require_finite(values: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Refuse NaN and infinity at true positions, which would pass for positions without a value.

    Args:
        values: (batch, length, any).
        lengths: True lengths, or None.

    Returns:
        The values.

    Raises:
        UserError: If one is not finite.
    """
    good = values.isfinite().all(dim=-1)
    if lengths is not None:
        good = good | ~length_mask(lengths, values.shape[1])
    if not good.all():
        raise UserError(
            "the model gives NaN or infinite values", hint="`seqmamba check` looks for the reason"
        )
    return values


def _is_causal(model: LanguageModel) -> bool:
    config: Any = model.config.backbone
    return getattr(config, "outer", config).direction == "causal"
