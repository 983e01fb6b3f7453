"""Scores of variants: what a model makes of the bases around a variant with and without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genomics.allele_models import PairedAlleleModel
from genomics.language_reader import LanguageReader
from genomics.masked_model import MaskedModel
from genomics.models import SequenceModel
from genomics.variant_likelihoods import (
    Batches,
    CausalScores,
    FloatArray,
    MaskedScores,
    StrandScores,
    both_windows,
)
from genomics.variant_results import Score
from genomics.variants import Haplotypes
from seqmamba.backbones import LanguageModel
from seqmamba.errors import UserError
from seqmamba.nn.pooling import mean_pool

Strands = Literal["both", "each", "forward"]
KINDS = ("llr", "embedding", "delta")
"""What can be asked for."""

DEFAULT_WINDOW = 1_024


class EmbeddingScores(StrandScores):
    """Distances between the pooled features of the two windows.

    Args:
        model: The model.
        batches: How to run it.
    """

    scores = (
        Score("COSINE", "1 - cosine between the pooled features of the windows with ALT and with REF"),
        Score("L2", "Euclidean distance between the pooled features of the windows with ALT and with REF"),
    )

    def __init__(self, model: nn.Module, batches: Batches) -> None:
        self.symmetric = averages_strands(model)
        self._model = model
        self._batches = batches
        self._ids = LanguageReader(model).ids if isinstance(model, MaskedModel) else None

    def measure(self, pairs: Sequence[Haplotypes]) -> FloatArray:
        """Return both distances."""
        ref, alt = both_windows(self._batches, self._embed, pairs)
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN is reported as such
            units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ref, alt)]
        # Half the squared distance of unit vectors is 1 - cos, with all its digits where cos is near 1.
        cosine = np.square(units[1] - units[0]).sum(axis=1) / 2
        return np.stack((cosine, np.linalg.norm(alt - ref, axis=1)), axis=1)

    def _embed(self, tokens: Tensor) -> Tensor:
        if isinstance(self._model, LanguageModel):
            return mean_pool(self._model.backbone(self._model.embedding(tokens)))
        if isinstance(self._model, PairedAlleleModel):
            return self._model.features(tokens)
        own = tokens if self._ids is None else self._ids[tokens]
        return cast(MaskedModel | SequenceModel, self._model).embed(own)


class SupervisedScores(StrandScores):
    """What a classifier or regressor predicts with the alternative allele minus what it does without.

    Classes of which a sequence has one, and labels of which it has any, are compared by their log-odds ``ln p
    - ln (1 - p)``, values by themselves, in the units of the training targets.

    Args:
        model: The model.
        batches: How to run it.
    """

    def __init__(self, model: SequenceModel, batches: Batches) -> None:
        self.symmetric = averages_strands(model)
        self._model = model
        self._batches = batches
        what = "predicted value" if model.config.task == "regression" else "log-odds"
        self.scores = tuple(
            Score(f"DELTA_{name}", f"{what} of {name} with ALT minus with REF")
            for name in model.config.classes
        )

    def measure(self, pairs: Sequence[Haplotypes]) -> FloatArray:
        """Return a difference a class or target."""
        ref, alt = both_windows(self._batches, self._predict, pairs)
        return alt - ref

    def _predict(self, tokens: Tensor) -> Tensor:
        logits = self._model(tokens).double()
        if self._model.config.task == "regression":
            return self._model.to_predictions(logits)
        if self._model.config.task == "multilabel":
            return logits
        itself = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others = logits[:, None, :].masked_fill(itself, -torch.inf)
        return logits - others.logsumexp(dim=-1)


class EffectScores(StrandScores):
    """What a model of pairs of alleles says the exchange does, in the units of its training targets.

    Args:
        model: The model.
        batches: How to run it.
    """

    def __init__(self, model: PairedAlleleModel, batches: Batches) -> None:
        self.symmetric = averages_strands(model)
        self._model = model
        self._batches = batches
        self.scores = tuple(
            Score(f"DELTA_{name}", f"predicted effect on {name} of ALT in place of REF")
            for name in model.config.targets
        )

    @torch.inference_mode()
    def measure(self, pairs: Sequence[Haplotypes]) -> FloatArray:
        """Return an effect a target."""
        weight = self._model.head.linear.weight
        ref, alt = (
            torch.from_numpy(rows).to(weight.device, weight.dtype)
            for rows in both_windows(self._batches, self._model.features, pairs)
        )
        effects: FloatArray = self._model.head(ref, alt).double().cpu().numpy()
        return effects


class VariantScorer:
    """The scores that a model can give to variants, on one strand or both.

    Args:
        model: A `SequenceModel`, a `PairedAlleleModel`, a `MaskedModel`, or a `LanguageModel` over the ids of
            `genomics.alphabet`.
        kinds: Out of `KINDS`; None for the model's own, ``delta`` or ``llr``.
        strands: ``forward``; ``both``, their average; or ``each``, the average and the two.
        batch_bases: Bases in a batch.

    Raises:
        UserError: If the model gives no such score.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: Sequence[str] | None = None,
        strands: Strands = "both",
        batch_bases: int = 65_536,
    ) -> None:
        if batch_bases < 1:
            raise UserError(f"--batch-bases: expected a positive number, got {batch_bases}")
        device = next(model.parameters()).device
        self._parts = list(_parts(model.eval(), kinds, Batches(device, batch_bases)))
        self._strands = strands
        self.scores = tuple(self._columns())

    def _columns(self) -> Iterator[Score]:
        words = {
            "forward": "forward strand",
            "both": "both strands averaged",
            "each": "both strands averaged",
        }
        for part in self._parts:
            for score in part.scores:
                yield Score(score.name, f"{score.description} ({words[self._strands]})")
                if self._strands == "each":
                    yield Score(f"{score.name}_FWD", f"{score.description} (forward strand)")
                    yield Score(f"{score.name}_RC", f"{score.description} (reverse strand)")

    def __call__(
        self, pairs: Sequence[Haplotypes]
    ) -> tuple[Float[np.ndarray, "pairs scores"], Bool[np.ndarray, " pairs"]]:
        """Score pairs of windows.

        Returns:
            The scores, NaN where one does not apply or the model gave no number; and whether it did not.
        """
        if not pairs:
            return np.empty((0, len(self.scores))), np.empty(0, dtype=np.bool_)
        columns: list[FloatArray] = []
        failed = np.zeros(len(pairs), dtype=np.bool_)
        turned = [pair.reverse_complement() for pair in pairs]
        for part in self._parts:
            applies = part.applies(pairs)
            forward = reverse = part.measure(pairs)
            if self._strands != "forward" and not part.symmetric:
                reverse = part.measure(turned)
            mean = (forward + reverse) / 2
            shown = (mean, forward, reverse) if self._strands == "each" else (mean,)
            failed |= (applies & ~np.isfinite(mean)).any(axis=1)
            stacked = np.stack(shown, axis=2)  # the columns of one score lie side by side
            stacked[~(applies & np.isfinite(mean))] = np.nan
            columns.append(stacked.reshape(len(pairs), -1))
        return np.concatenate(columns, axis=1), failed


def _parts(model: nn.Module, kinds: Sequence[str] | None, batches: Batches) -> Iterator[StrandScores]:
    """Build the scorers of the kinds that were asked for."""
    supervised = isinstance(model, SequenceModel | PairedAlleleModel)
    headless = isinstance(model, LanguageModel) and not model.config.head
    if not (supervised or isinstance(model, MaskedModel | LanguageModel)):
        raise UserError(
            "the model: expected a sequence model, a model of pairs of alleles or a language model over DNA, "
            f"got {type(model).__name__}"
        )
    possible = ("delta", "embedding") if supervised else ("embedding",) if headless else ("llr", "embedding")
    for kind in dict.fromkeys(kinds or possible[:1]):
        if kind not in possible:
            raise UserError(
                f"--scores {kind}: a {type(model).__name__} gives {' and '.join(possible)}"
                f"{' (it has no head)' if headless else ''}"
            )
        if kind == "embedding":
            yield EmbeddingScores(model, batches)
        elif isinstance(model, SequenceModel):
            yield SupervisedScores(model, batches)
        elif isinstance(model, PairedAlleleModel):
            yield EffectScores(model, batches)
        else:
            reader = LanguageReader(model)
            yield (CausalScores if reader.causal else MaskedScores)(reader, batches)


def averages_strands(model: nn.Module) -> bool:
    """Say whether a model reads both strands alike, so that a second reading would add nothing."""
    if isinstance(model, SequenceModel):
        return model.config.strand in ("conjoin", "equivariant")
    if isinstance(model, PairedAlleleModel):
        return model.averages_strands
    return isinstance(model, MaskedModel) and model.config.equivariant
