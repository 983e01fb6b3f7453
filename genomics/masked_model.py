"""A masked language model over DNA, with or without exact reverse-complement equivariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.vocabulary import CADUCEUS, Vocabulary
from seqmamba.backbones import Backbone, BackboneConfig, HubModel, LanguageModel, LanguageModelConfig
from seqmamba.backbones.activations import LONG
from seqmamba.distributed import ContextGroup, Piece, mirror_pieces
from seqmamba.errors import UserError
from seqmamba.nn.options import require, require_bool
from seqmamba.nn.packing import reset_from_lengths
from seqmamba.nn.pooling import mean_pool
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.rerun import rerun

Way = Literal["together", "apart", "again"]


@dataclass(frozen=True)
class MaskedModelConfig:
    """What a `MaskedModel` is made of.

    Args:
        backbone: The stack between embedding and head, bidirectional.
        vocabulary: The token ids.
        equivariant: Whether both strands pass through the model, so that its results for one strand are those
            for the other, turned round.
        tie_embeddings: Whether the head's weight is the embedding's.

    Raises:
        UserError: If a field is out of range.
    """

    backbone: BackboneConfig
    vocabulary: Vocabulary = field(default_factory=lambda: CADUCEUS)
    equivariant: bool = True
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        direction = self.backbone.direction
        require(
            direction == "bidirectional",
            "backbone.direction",
            "bidirectional, since a masked base is guessed from both sides",
            direction,
        )
        for name in ("equivariant", "tie_embeddings"):
            require_bool(name, getattr(self, name))


class MaskedModel(nn.Module, HubModel):
    """Guesses hidden bases from both sides.

    If equivariant, this is Caduceus-PS (Schiff et al. 2024, arXiv:2403.03234, section 4). The two halves of
    the channels in its blocks never mix, so it is one language model f, applied to the strand x and to its
    reverse complement as a batch of twice the size, and nothing is flipped inside. With c the complement of a
    token, its shared head is the sum ``logits[t, v] = f(x)[t, v] + f(rc(x))[length - 1 - t, c(v)]``.

    If not, it is f alone: Caduceus-Ph, whose strands may be averaged afterwards.

    Args:
        config: What to build.
    """

    config_class = MaskedModelConfig

    complement: Tensor
    context: ContextGroup | None = None

    def __init__(self, config: MaskedModelConfig) -> None:
        super().__init__()
        self.config = config
        vocabulary = config.vocabulary
        self.language_model = LanguageModel(
            LanguageModelConfig(
                backbone=config.backbone, vocab_size=vocabulary.size, tie_embeddings=config.tie_embeddings
            )
        )
        self.register_buffer("complement", torch.tensor(vocabulary.complement), persistent=False)

    @property
    def backbone(self) -> Backbone:
        """The stack of one strand."""
        return cast(Backbone, self.language_model.backbone)

    def forward(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Score every token at every position.

        Ranks that share out sequences (`seqmamba.nn.context`) give their piece of the tokens, and the lengths
        of the whole.

        Args:
            tokens: Ids of ``config.vocabulary``, padded on the right.
            lengths: True lengths in bases, or None when every sequence fills the batch.

        Returns:
            Logits, float32; those of ids that no sequence ever held are as meaningless as in training.

        Raises:
            UserError: If the tokens or the lengths do not fit.
        """
        self._check(tokens, lengths)
        if not self.config.equivariant:
            return self._logits(tokens, self._reset(tokens, lengths))
        turned, reset, reset_turned = self._other_strand(tokens, lengths)
        way = self._way(tokens)
        if way == "again":
            given = rerun(lambda: self._logits(tokens, reset), self.parameters())
            other = self._logits(turned, reset_turned)
        elif way == "apart" and self.backbone.memory is not None:
            with self.backbone.memory.before(1):
                given = self._logits(tokens, reset)
            other = self._logits(turned, reset_turned)
        else:
            both = None if reset is None or reset_turned is None else torch.cat((reset, reset_turned))
            given, other = self._logits(torch.cat((tokens, turned)), both).chunk(2)
        return given + self._mirror(other, lengths)[..., self.complement]

    def features(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length channels"]:
        """Return what the head sees: the last hidden states.

        Args:
            tokens: See `forward`.
            lengths: See `forward`.

        Returns:
            ``d_model`` channels; if equivariant twice as many. Then the first half belongs to the strand as
            given. The second half belongs to the other strand, laid along the given one and with its channels
            in reverse order, so that the features of ``rc(x)`` are those of ``x`` with both positions and
            channels reversed. ``features[..., d_model:].flip(-1)`` is in the order of the first half.
        """
        hidden = self._run(tokens, lengths)
        if not self.config.equivariant:
            return hidden
        given, other = hidden.chunk(2)
        return torch.cat((given, self._mirror(other, lengths).flip(-1)), dim=-1)

    def embed(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return one vector a sequence: the mean over the bases and, if equivariant, over both strands."""
        pooled = mean_pool(self.features(tokens, lengths), lengths, self.context)
        if not self.config.equivariant:
            return pooled
        given, other = pooled.chunk(2, dim=-1)
        return (given + other.flip(-1)) / 2

    def _run(self, tokens: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the hidden states of every strand, each in its own direction."""
        self._check(tokens, lengths)
        reset = self._reset(tokens, lengths)
        if self.config.equivariant:
            turned, reset, reset_turned = self._other_strand(tokens, lengths)
            tokens = torch.cat((tokens, turned))
            reset = None if reset is None or reset_turned is None else torch.cat((reset, reset_turned))
        return self._hidden(tokens, reset)

    def _hidden(self, tokens: Tensor, reset: Tensor | None) -> Tensor:
        return self.backbone(self.language_model.embedding(tokens.long()), reset=reset)

    def _logits(self, tokens: Tensor, reset: Tensor | None) -> Tensor:
        return self.language_model.judge(tokens, at_least_float32, reset=reset)

    def _reset(self, tokens: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Return where sequences and their padding start, of this rank's piece; None without padding."""
        if lengths is None:
            return None
        piece = Piece(self.context, tokens)
        return reset_from_lengths(lengths, piece.total)[:, piece.own]

    def _other_strand(
        self, tokens: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the reverse complements, and where both strands start."""
        turned = self._mirror(self.complement[tokens.long()], lengths).to(tokens.dtype)
        reset = self._reset(tokens, lengths)
        if lengths is None or self.context is None:
            return turned, reset, reset
        # over ranks the padding is turned round with the strand, and comes first
        return turned, reset, self._reset(tokens, Piece(self.context, tokens).total - lengths)

    def _way(self, tokens: Tensor) -> Way:
        """Return how the strands are read to stay in the memory budget.

        Side by side, or one after the other where one keeps a device busy, which halves what the backward
        pass of a block takes; or the first one again when the second is done, so that one graph is held.
        """
        memory = self.backbone.memory
        if memory is None or not torch.is_grad_enabled():
            return "together"
        stream = torch.empty(1, dtype=torch.float32, device=tokens.device)
        rows, length, width = *tokens.shape, self.config.backbone.d_model
        plan = self.backbone.activation_plan(stream.expand(2 * rows, length, width))
        if plan.fits and not (plan.recomputed or plan.spares):
            return "together"
        if tokens.numel() >= LONG or not plan.fits:
            with memory.before(1):
                if self.backbone.activation_plan(stream.expand(rows, length, width)).fits:
                    return "apart"
        return "together" if plan.fits else "again"

    def _mirror(self, rows: Tensor, lengths: Tensor | None) -> Tensor:
        """Reverse the positions of every sequence; over ranks, of every padded sequence."""
        if self.context is None:
            return mirror(rows, lengths)
        return mirror_pieces(self.context, rows, Piece(self.context, rows).total)

    def _check(self, tokens: Tensor, lengths: Tensor | None) -> None:
        if tokens.ndim != 2 or tokens.shape[1] == 0 or tokens.is_floating_point():
            got = f"{tokens.dtype} {tuple(tokens.shape)}"
            raise UserError(f"tokens: expected whole numbers (batch, length >= 1), got {got}")
        if lengths is not None and (lengths.shape != tokens.shape[:1] or lengths.is_floating_point()):
            got = f"{lengths.dtype} {tuple(lengths.shape)}"
            raise UserError(f"lengths: expected whole numbers ({len(tokens)},), got {got}")

    def tokenise(
        self, sequences: Sequence[str | bytes]
    ) -> tuple[Int[Tensor, "batch length"], Int[Tensor, " batch"]]:
        """Turn letters into what `forward` takes, on the model's device. No special token is added.

        Args:
            sequences: Letters of at least one base each.

        Returns:
            Ids, padded on the right, and the true lengths.

        Raises:
            UserError: If a letter is not a base, a sequence is empty, or it is not known which ids stand for
                bases.
        """
        rows = [torch.from_numpy(self.config.vocabulary.encode(sequence)).long() for sequence in sequences]
        if not rows or not all(map(len, rows)):
            raise UserError("sequences: expected at least one, of at least one base each")
        fill = self.config.vocabulary.pad or 0  # what lies behind a sequence does not matter
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
        lengths = torch.tensor([len(row) for row in rows])
        return tokens.to(self.complement.device), lengths.to(self.complement.device)

    def example_input(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Int[Tensor, "batch length"]:
        """Draw random bases, any ids if it is not known which are bases; see `HubModel.example_input`."""
        vocabulary = self.config.vocabulary
        allowed = torch.tensor(vocabulary.bases or range(vocabulary.size))
        return allowed[torch.randint(len(allowed), (batch, length), generator=generator)]

    @torch.no_grad()
    def symmetry_error(self, batch: int, length: int, seed: int = 0) -> float | None:
        """Measure how far the logits of reverse complements are from the turned logits of random sequences.

        Args:
            batch: Sequences.
            length: Bases of each.
            seed: Of the sequences.

        Returns:
            The largest difference; None if the model is not meant to be equivariant.
        """
        if not self.config.equivariant:
            return None
        tokens = self.example_input(batch, length, torch.Generator().manual_seed(seed))
        tokens = tokens.to(self.complement.device)
        turned = self(reverse_complement_tokens(tokens, complement=self.complement))
        return (mirror(turned)[..., self.complement] - self(tokens)).abs().max().item()
