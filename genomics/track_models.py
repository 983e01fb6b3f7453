"""What a model says about the positions of a window: one interface to every kind of model.

A track of a sequence model holds its probabilities or values; a track of a language model scores the bases
that are there, see `genomics.language_reader`. Other models join by `TrackModel`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genomics.alphabet import MASK, A, T
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.language_reader import SCORES, LanguageReader, language_scores, require_finite
from genomics.models import SequenceModel
from seqmamba.errors import UserError


@runtime_checkable
class TrackModel(Protocol):
    """A model with a head for every position or every bin of positions.

    Attributes:
        track_targets: Names of the values of a bin.
        track_bin: Bases a bin; 1 for a value a base.

    A model whose targets belong to a strand also has ``track_complement``: for every target, the one that has
    its place when the other strand is read. One of probabilities has ``track_probability = True``.
    """

    track_targets: tuple[str, ...]
    track_bin: int

    def predict_track(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the values, (batch, bins, targets), in the units that a user wants to see.

        Args:
            tokens: Ids of `genomics.alphabet`, (batch, length), padded on the right.
            lengths: True lengths, whole numbers of bins.
        """


class Predictor(ABC):
    """Values along windows.

    Attributes:
        targets: Names of the values of a row.
        unit: Bases a row. 0 if a window has one row, whatever its length.
        probability: Whether the values are probabilities.
        causal: Whether a value depends on what lies left of its position only.
        window: Bases that the model is used to, if it tells.
    """

    targets: tuple[str, ...]
    unit: int = 1
    probability: bool = False
    causal: bool = False
    window: int | None = None

    @abstractmethod
    def __call__(
        self,
        tokens: Int[Tensor, "batch length"],
        lengths: Int[Tensor, " batch"],
        starts: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch rows targets"]:
        """Return the values of every row; NaN where the model has none.

        Args:
            tokens: Ids of `genomics.alphabet`, padded on the right.
            lengths: True lengths.
            starts: Where the windows lie on their chromosomes.
        """


def predictor(model: nn.Module, *, both_strands: bool = False, mask_every: int = 8) -> Predictor:
    """Return the predictor for a model.

    Args:
        model: A sequence model, a masked or causal language model over DNA, or a `TrackModel`.
        both_strands: Whether to average with the reading of the other strand, where the model does not do so.
        mask_every: For masked language models: a base is scored while it and every ``mask_every``-th other
            base are hidden, in so many passes; 0 scores bases that the model sees.

    Raises:
        UserError: If the model gives no value for a position or window.
    """
    if isinstance(model, SequenceModel):
        return SequencePredictor(model, both_strands)
    if isinstance(model, TrackModel):
        return HeadPredictor(model, both_strands)
    reader = LanguageReader(model)
    if reader.causal:
        return CausalPredictor(reader, both_strands)
    return MaskedPredictor(reader, both_strands, mask_every)


class SequencePredictor(Predictor):
    """The probabilities or values of a sequence model for a whole window.

    Of two classes the second one is kept: the first one's probability says the same.
    """

    unit = 0

    def __init__(self, model: SequenceModel, both_strands: bool) -> None:
        config = model.config
        self.model = model
        self.probability = config.task != "regression"
        self.window = config.max_length
        self._first = 1 if config.task == "classification" and len(config.classes) == 2 else 0
        self.targets = config.classes[self._first :]
        self._both = both_strands and config.strand in ("forward", "augment")

    def __call__(self, tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        """See `Predictor`: one row a window."""
        values = self.model.predict(tokens, lengths)
        if self._both:
            other = self.model.predict(reverse_complement_tokens(tokens, lengths), lengths)
            values = (values + other) / 2
        return require_finite(values[:, None, self._first :])


class HeadPredictor(Predictor):
    """The values of a model with a head for every position or bin."""

    def __init__(self, model: TrackModel, both_strands: bool) -> None:
        self.model = model
        self.targets = tuple(model.track_targets)
        self.window = getattr(getattr(model, "config", None), "max_length", None)
        self.unit = model.track_bin
        self.probability = getattr(model, "track_probability", False)
        self._both = both_strands

    def __call__(self, tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        """See `Predictor`: one row a bin."""
        values = self.model.predict_track(tokens, lengths)
        bins = lengths // self.unit
        expected = (len(tokens), tokens.shape[1] // self.unit, len(self.targets))
        if values.shape != expected:
            raise UserError(f"predict_track: expected values {expected}, got {tuple(values.shape)}")
        if self._both:
            turned = reverse_complement_tokens(tokens, lengths)
            other = mirror(self.model.predict_track(turned, lengths), bins)
            swapped = getattr(self.model, "track_complement", range(len(self.targets)))
            values = (values + other[..., list(swapped)]) / 2
        return require_finite(values, bins)


class MaskedPredictor(Predictor):
    """Scores of hidden bases, guessed from both sides."""

    targets = SCORES

    def __init__(self, reader: LanguageReader, both_strands: bool, mask_every: int) -> None:
        if mask_every < 0:
            raise UserError(f"--mask-every: expected 0 (hide nothing) or more, got {mask_every}")
        if mask_every and reader.vocabulary.mask is None:
            raise UserError(
                "--mask-every: the checkpoint does not say which token hides a base",
                hint="--mask-every 0 scores bases that the model sees",
            )
        self.reader = reader
        self._both = both_strands and not reader.averages_strands
        self._every = mask_every

    def __call__(self, tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        """See `Predictor`: one row a base."""
        if not self._every:
            return require_finite(self._scores(tokens, tokens, lengths), lengths)
        positions = starts[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        known = (tokens >= A) & (tokens <= T)
        scores = tokens.new_zeros((*tokens.shape, len(SCORES)), dtype=torch.float32)
        for phase in range(self._every):
            chosen = positions % self._every == phase
            hidden = tokens.masked_fill(chosen & known, MASK)
            scores = torch.where(chosen[..., None], self._scores(hidden, tokens, lengths), scores)
        return require_finite(scores, lengths)

    def _scores(self, inputs: Tensor, truth: Tensor, lengths: Tensor) -> Tensor:
        scores = language_scores(self.reader(inputs, lengths), truth)
        if self._both:
            inputs, truth = (reverse_complement_tokens(x, lengths) for x in (inputs, truth))
            scores = (scores + mirror(language_scores(self.reader(inputs, lengths), truth), lengths)) / 2
        return scores


class CausalPredictor(Predictor):
    """Scores of bases guessed from what lies in front of them in a window; the first one has none."""

    targets = SCORES

    def __init__(self, reader: LanguageReader, both_strands: bool) -> None:
        self.reader = reader
        self._both = both_strands
        self.causal = not both_strands  # else the values depend on both sides

    def __call__(self, tokens: Tensor, lengths: Tensor, starts: Tensor) -> Tensor:
        """See `Predictor`: one row a base."""
        scores = self._scores(tokens, lengths)
        if self._both:
            other = self._scores(reverse_complement_tokens(tokens, lengths), lengths)
            scores = mean_of_known(scores, mirror(other, lengths))
        return scores

    def _scores(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        logits = require_finite(self.reader(tokens, lengths), lengths)
        before = logits.new_full((len(tokens), 1, logits.shape[-1]), math.nan)
        return language_scores(torch.cat((before, logits[:, :-1]), dim=1), tokens)


def mean_of_known(one: Float[Tensor, "*shape"], other: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Average two tensors; where one is NaN, take the other.

    Args:
        one: Values.
        other: Values of the same shape.
    """
    return torch.where(one.isnan(), other, torch.where(other.isnan(), one, (one + other) / 2))
