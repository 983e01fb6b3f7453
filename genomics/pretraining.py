"""What a model learns from DNA alone: to guess hidden bases, or the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from genomics.alphabet import VOCAB_SIZE, A, T
from genomics.datasets.genome_batches import GenomeBatch
from genomics.equivariance import mirror, reverse_complement_some, reverse_complement_tokens
from genomics.language_reader import LanguageReader
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.masking import MaskingConfig, known_bases, mask_bases
from seqmamba.backbones import BackboneConfig, LanguageModel, LanguageModelConfig
from seqmamba.distributed import ContextGroup, mean_over_processes, piece_bounds
from seqmamba.errors import UserError
from seqmamba.inference.philox import uniforms
from seqmamba.nn.context import spread_context
from seqmamba.nn.options import is_number, require, require_bool, require_choice
from seqmamba.nn.slices import in_slices
from seqmamba.training.exported import load_any_model
from seqmamba.training.segments import BackpropConfig, SegmentedLoss, segmented_loss

Objective = Literal["masked", "next_base"]
Strand = Literal["forward", "augment", "conjoin", "equivariant"]
_STREAM = 2  # of random numbers; another one than the masks'
_OTHER_STRAND = 2**62  # makes other keys of the keys of windows, which are smaller


def _default_backbone() -> BackboneConfig:
    return BackboneConfig(d_model=128, n_layers=4, direction="bidirectional")


@dataclass(frozen=True)
class PretrainingConfig:
    """A language model over DNA and its objective.

    Args:
        backbone: The stack: bidirectional for ``masked``, causal for ``next_base``.
        objective: ``masked`` guesses hidden bases (`MaskedModel`), ``next_base`` the one that follows
            (`LanguageModel`).
        strand: ``equivariant`` makes the masked model exactly reverse-complement equivariant; ``augment``
            trains on a random strand of every window; ``conjoin`` trains and tests on both strands of every
            window, which takes the memory of twice the batch; ``forward`` reads them as they are.
        masking: How much is hidden.
        repeat_weight: Weight in the loss of a base that the genome's file has in lower case, as repeats are
            in soft-masked genomes. Others weigh 1.
        tie_embeddings: Whether the head's weight is the embedding's.
        init_from: Run folder, folder or repository of a model to go on with; its backbone takes the place of
            `backbone`.
        backprop: How much of a window's graph is held at once, for ``next_base``: windows longer than that
            fit into the memory of a segment.

    Raises:
        UserError: If values do not go together.
    """

    backbone: BackboneConfig = field(default_factory=_default_backbone)
    objective: Objective = "masked"
    strand: Strand = "equivariant"
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    repeat_weight: float = 0.1
    tie_embeddings: bool = True
    init_from: str | None = None
    backprop: BackpropConfig = field(default_factory=BackpropConfig)

    def __post_init__(self) -> None:
        require_choice("objective", self.objective, ("masked", "next_base"))
        require_choice("strand", self.strand, ("forward", "augment", "conjoin", "equivariant"))
        good = is_number(self.repeat_weight) and self.repeat_weight >= 0
        require(good, "repeat_weight", "a number of 0 or more", self.repeat_weight)
        require_bool("tie_embeddings", self.tie_embeddings)
        causal = self.objective == "next_base"
        if causal and self.strand == "equivariant":
            raise UserError(
                "strand: a model of the next base cannot be equivariant, as it reads one way only",
                hint="use augment or conjoin",
            )
        if not self.backprop.whole and not causal:
            raise UserError(
                "backprop: a masked model sees both sides of a base, so nothing can be carried; expected "
                "length null and carry false",
                hint="backbone.checkpoint_activations saves memory too",
            )
        if self.backprop.carry and self.strand != "forward":
            raise UserError(f"backprop.carry: expected strand forward beside it, got {self.strand}")
        expected = "causal" if causal else "bidirectional"
        if self.backbone.direction != expected and self.init_from is None:
            raise UserError(
                f"backbone.direction: expected {expected} for the objective {self.objective}, "
                f"got {self.backbone.direction}"
            )


def build_model(config: PretrainingConfig) -> MaskedModel | LanguageModel:
    """Build the model of a configuration, or take up the one that it begins with.

    Args:
        config: What to build.

    Raises:
        UserError: If the model to begin with is none for this objective.
    """
    if config.init_from is not None:
        return _taken_up(config, load_any_model(config.init_from, "cpu").train())
    if config.objective == "masked":
        return MaskedModel(
            MaskedModelConfig(
                config.backbone,
                equivariant=config.strand == "equivariant",
                tie_embeddings=config.tie_embeddings,
            )
        )
    return LanguageModel(
        LanguageModelConfig(config.backbone, VOCAB_SIZE, tie_embeddings=config.tie_embeddings)
    )


def _taken_up(config: PretrainingConfig, model: torch.nn.Module) -> MaskedModel | LanguageModel:
    reader = LanguageReader(model)
    if reader.causal != (config.objective == "next_base"):
        kind = "the next base" if reader.causal else "hidden bases"
        raise UserError(
            f"init_from: {config.init_from} guesses {kind}, which does not fit objective {config.objective}"
        )
    if reader.averages_strands != (config.strand == "equivariant"):
        kind = "is" if reader.averages_strands else "is not"
        raise UserError(
            f"init_from: {config.init_from} {kind} equivariant, which does not fit strand {config.strand}"
        )
    return cast(MaskedModel | LanguageModel, model)


class Guesses(NamedTuple):
    """What a model made of the positions that it was asked for.

    Attributes:
        nll: Negative natural logarithm of the probability of the true base, (rows, length) float32.
        right: Whether the true base had the largest logit of all bases, (rows, length) bool.
        asked: Which positions count, (rows, length) bool.
        truth: Ids of `genomics.alphabet`, (rows, length).
        lower: Whether the base is in lower case, (rows, length) bool.
        genome: Which genome, (rows,) int64.
    """

    nll: Tensor
    right: Tensor
    asked: Tensor
    truth: Tensor
    lower: Tensor
    genome: Tensor


class Objectives:
    """Asks a model for bases.

    Args:
        model: What to ask.
        config: What for.
    """

    def __init__(self, model: MaskedModel | LanguageModel, config: PretrainingConfig) -> None:
        self._model = model
        self._config = config
        self._ids = LanguageReader(model).ids
        self._context: ContextGroup | None = None

    def share(self, context: ContextGroup | None) -> None:
        """Share every window out among ranks, all of which are given the same batches.

        Args:
            context: The ranks; None: this process reads the windows alone.

        Raises:
            UserError: If windows are read in segments, which carry their state in one process.
        """
        if context is not None and not self._config.backprop.whole:
            raise UserError(
                "backprop: expected length null and carry false where ranks share out windows: each holds "
                "the graph of its own piece"
            )
        spread_context(self._model, context)
        self._context = context

    def ask(self, batch: GenomeBatch, *, training: bool) -> Guesses:
        """Hide what is to be guessed, and guess it.

        Args:
            batch: Windows.
            training: Whether strands are drawn; masks are drawn from the windows' keys in any case.

        Returns:
            Of the whole windows, or of this rank's piece of them, see `share`.
        """
        tokens, lower, lengths, keys, genome = self._strands(batch, training)
        ids = self._ids = self._ids.to(tokens.device)
        whole = slice(0, tokens.shape[1])
        own = whole if self._context is None else piece_bounds(self._context, tokens.shape[1])
        if self._config.objective == "next_base":
            truth, lower = tokens[:, 1:][:, own], lower[:, 1:][:, own]  # the last rank's is one shorter
            shown, asked = ids[tokens[:, own].long()], known_bases(truth)
            count = truth.shape[1]
            target = F.pad(ids[truth.long()], (0, shown.shape[1] - count))
            nll, right = cast(LanguageModel, self._model).judge(shown, self._judge, target)
            nll, right = nll[:, :count], right[:, :count]
        else:
            tokens, lower = tokens[:, own], lower[:, own]
            hidden, asked = mask_bases(tokens, keys, self._config.masking, own.start)
            shown = ids[hidden.long()]
            # Without padding nothing has to be told apart; a backbone is faster without a reset.
            truth = tokens
            nll, right = in_slices(self._judge, self._model(shown, lengths), ids[truth.long()])
        return Guesses(nll, right, asked, truth, lower, genome)

    def _judge(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood of targets, and whether no other base has a larger logit."""
        bases = self._ids[A : T + 1]
        nll = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), reduction="none")
        return nll.view_as(target), bases[logits[..., bases].argmax(dim=-1)] == target

    def loss(self, guesses: Guesses) -> Float[Tensor, ""]:
        """Return the mean over the asked positions, weighted by case; 0 where none was asked.

        Where several processes train it is this one's part of that: the mean of their losses is the mean over
        the asked positions of all. So it does not matter how they share out windows or batches.
        """
        weights = torch.where(guesses.lower, self._config.repeat_weight, 1.0) * guesses.asked
        # Where nothing was asked nothing may come through, not even a NaN times zero.
        nll = guesses.nll.masked_fill(~guesses.asked, 0.0)
        total = mean_over_processes(weights.sum())
        return (nll * weights).sum() / total.clamp_min(1e-6)

    def initial_state(self, batch: GenomeBatch) -> Any:
        """Return the state before windows that begin anew."""
        return cast(LanguageModel, self._model).init_state(len(batch["tokens"]))

    def loss_in_segments(self, batch: GenomeBatch, state: Any = None) -> SegmentedLoss:
        """Return the loss of windows for training, with the graph of a segment held at a time.

        Args:
            batch: Windows.
            state: The state before them; None for a fresh one.
        """
        tokens, lower, _, _, _ = self._strands(batch, training=True)
        self._ids = self._ids.to(tokens.device)
        weights = torch.where(lower[:, 1:], self._config.repeat_weight, 1.0) * known_bases(tokens[:, 1:])
        total = mean_over_processes(weights.sum()).clamp_min(1e-6)
        positions = tokens.shape[1] - 1
        if positions < 1:
            raise UserError("windows.length: expected 2 bases or more to guess the next one, got 1")
        size = min(self._config.backprop.length or positions, positions)

        def segment(number: int, state: Any) -> tuple[Tensor, Any]:
            part = slice(number * size, min((number + 1) * size, positions))
            ids = self._ids[tokens[:, part.start : part.stop + 1].long()]
            logits, state = self._model(ids[:, :-1], state=state, return_state=True)
            nll = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            share = weights[:, part]
            # Where nothing was asked nothing may come through, not even a NaN times zero.
            return (nll.view_as(share).masked_fill(share == 0, 0.0) * share).sum() / total, state

        if state is None:
            state = cast(LanguageModel, self._model).init_state(len(tokens))
        count = -(-positions // size)
        truncate = self._config.backprop.truncate
        return segmented_loss(segment, count, state, self._model.parameters(), truncate=truncate)

    def _strands(
        self, batch: GenomeBatch, training: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        tokens, lower, lengths = batch["tokens"], batch["lower"], batch["lengths"]
        keys, genome = batch["keys"], batch["genome"]
        if self._config.strand == "augment" and training:
            turned = uniforms(_STREAM, keys, torch.zeros_like(keys)[:, None])[:, 0] < 0.5
            lower = torch.where(turned[:, None], mirror(lower, lengths), lower)
            tokens = reverse_complement_some(tokens, lengths, turned)
        elif self._config.strand == "conjoin":
            tokens = torch.cat((tokens, reverse_complement_tokens(tokens, lengths)))
            lower = torch.cat((lower, mirror(lower, lengths)))
            lengths = None if lengths is None else torch.cat((lengths, lengths))
            keys = torch.cat((keys, keys + _OTHER_STRAND))
            genome = torch.cat((genome, genome))
        return tokens, lower, lengths, keys, genome
