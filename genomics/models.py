"""A sequence classifier or regressor: bases in, one logit a class (or one value a target) out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genomics.alphabet import A, C, G, T
from genomics.equivariance import conjoin, reverse_complement_tokens
from genomics.readout import POOLINGS, Pooling, Readout
from genomics.stems import StemWidth, build_stem, check_stem_width, token_table
from genomics.vocabulary import Vocabulary
from seqmamba.backbones import Backbone, BackboneConfig, HubModel
from seqmamba.errors import UserError
from seqmamba.nn.options import require_whole
from seqmamba.nn.packing import length_mask, reset_from_lengths

TaskName = Literal["classification", "multilabel", "regression"]
Strand = Literal["forward", "augment", "conjoin", "equivariant"]


def _default_backbone() -> BackboneConfig:
    return BackboneConfig(d_model=64, n_layers=2, direction="bidirectional", d_state=8)


@dataclass(frozen=True)
class SequenceModelConfig:
    """What a `SequenceModel` is made of.

    Args:
        backbone: The stack of Mamba blocks.
        task: ``classification`` (one of the classes), ``multilabel`` (any of them) or ``regression``. A
            training run takes it from the data.
        classes: Class names, or target names for regression. A training run takes them from the data.
        stem_width: Bases that the first layer sees at once, odd. 1 is a plain embedding; a motif-wide stem
            lets a shallow stack start from motifs instead of single bases. Several widths share the channels.
        positions: For sequences that are aligned to a site, such as promoters to the start of transcription:
            the longest one's bases, each of which gets a learned vector of its own, added to its features. A
            longer sequence is refused. 0 tells no position from another.
        frames: 3 reads the sequence codon by codon in its three reading frames, with the same weights, and
            keeps the largest of the three values of each pooled feature: for coding DNA. 1 reads bases.
        pooling: How positions become one vector, see `Readout`. Only true bases count. ``flatten`` needs
            `positions`.
        strand: ``forward`` reads the strand as given; ``augment`` trains on random strands; ``conjoin`` also
            averages both strands outside training; ``equivariant`` averages both strands always.
        dropout: Probability of dropping a pooled feature in front of the head.
        max_length: Longest sequence used in training, in bases; longer ones were cropped to their centre.
            None when nothing was cropped.
        embedding: Token ids of a pretrained language model whose embedding is the stem; ``stem_width`` is not
            used then. None for a convolution. A training run takes it from the model it begins with.

    Raises:
        UserError: If a value is out of range.
    """

    backbone: BackboneConfig = field(default_factory=_default_backbone)
    task: TaskName = "classification"
    classes: tuple[str, ...] = ()
    stem_width: StemWidth = 9
    positions: int = 0
    frames: int = 1
    pooling: Pooling = "mean_max"
    strand: Strand = "conjoin"
    dropout: float = 0.1
    max_length: int | None = None
    embedding: Vocabulary | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # YAML delivers lists
        for name, value, allowed in (
            ("task", self.task, ("classification", "multilabel", "regression")),
            ("pooling", self.pooling, POOLINGS),
            ("strand", self.strand, ("forward", "augment", "conjoin", "equivariant")),
        ):
            if value not in allowed:
                raise UserError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
        object.__setattr__(self, "stem_width", check_stem_width(self.stem_width))
        require_whole("positions", self.positions, 0)
        if self.positions and self.strand != "forward":
            raise UserError(f"positions: expected strand forward beside them, got {self.strand!r}")
        if self.positions and self.frames != 1:
            raise UserError("positions: expected frames 1 beside them, got 3")
        if self.pooling == "flatten" and not self.positions:
            raise UserError("pooling: flatten needs positions, the longest sequence's bases")
        if self.frames not in (1, 3):
            raise UserError(f"frames: expected 1 or 3, got {self.frames}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout: expected at least 0 and less than 1, got {self.dropout}")
        if self.max_length is not None and self.max_length < 1:
            raise UserError(f"max_length: expected at least 1 base, got {self.max_length}")


class SequenceModel(nn.Module, HubModel):
    """Stem, Mamba backbone, masked pooling and a linear head.

    Padding never influences a result: the stem sees zeros there, the backbone starts a new packed sequence at
    the first padded position, in both directions, and the pooling skips it.

    Args:
        config: What to build. ``classes`` must be filled.
    """

    config_class = SequenceModelConfig

    target_mean: Tensor
    target_scale: Tensor
    token_weights: Tensor

    def __init__(self, config: SequenceModelConfig) -> None:
        super().__init__()
        least = 2 if config.task == "classification" else 1
        if len(config.classes) < least:
            raise UserError(f"classes: {config.task} needs at least {least}, got {list(config.classes)}")
        self.config = config
        d_model = config.backbone.d_model
        self.stem = build_stem(d_model, config.stem_width, config.embedding)
        self.positions = (
            nn.Parameter(0.02 * torch.randn(config.positions, d_model)) if config.positions else None
        )
        self.backbone = Backbone(config.backbone)
        self.dropout = nn.Dropout(config.dropout)
        self.readout = Readout(d_model, config.pooling, config.positions)
        self.head = nn.Linear(self.readout.features, len(config.classes))
        self.register_buffer("token_weights", token_table(config.embedding), persistent=False)
        # A regression head works on standardised targets; these take its values back to the user's units.
        self.register_buffer("target_mean", torch.zeros(len(config.classes)))
        self.register_buffer("target_scale", torch.ones(len(config.classes)))

    def one_hot(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        """Return the input weights of token ids: the input of `forward_embedded`."""
        return F.embedding(tokens.long(), self.token_weights)

    def forward(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Score a batch of sequences.

        Args:
            tokens: Token ids (`genomics.alphabet`), padded on the right.
            lengths: True lengths in bases, or None when every sequence fills the batch.

        Returns:
            Logits (float32); for regression, standardised values.
        """
        return self.forward_embedded(self.one_hot(tokens), lengths)

    def forward_embedded(
        self, one_hot: Float[Tensor, "batch length vocabulary"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Score sequences given as token weights, so that a gradient can be taken with respect to the bases.

        Args:
            one_hot: Output of `one_hot`, or any other weights of the same shape.
            lengths: True lengths in bases, or None.

        Returns:
            Logits (float32).
        """
        if self._averages_strands:
            return conjoin(self._strand_logits, one_hot, lengths)
        return self._strand_logits(one_hot, lengths)

    def embed(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch features"]:
        """Return the pooled features in front of the head (averaged over strands where the logits are)."""
        one_hot = self.one_hot(tokens)
        if self._averages_strands:
            return conjoin(self._strand_features, one_hot, lengths)
        return self._strand_features(one_hot, lengths)

    def predict(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return class probabilities, or regression values in the units of the training targets."""
        return self.to_predictions(self(tokens, lengths))

    def to_predictions(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """Turn logits into probabilities (softmax or sigmoid) or values in the training targets' units."""
        if self.config.task == "classification":
            return logits.softmax(dim=-1)
        if self.config.task == "multilabel":
            return logits.sigmoid()
        return logits * self.target_scale + self.target_mean

    def example_input(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Int[Tensor, "batch length"]:
        """Draw random bases; see `HubModel.example_input`."""
        return torch.tensor([A, C, G, T])[torch.randint(4, (batch, length), generator=generator)]

    @torch.no_grad()
    def symmetry_error(self, batch: int, length: int, seed: int = 0) -> float | None:
        """Measure how far the predictions for random sequences and their reverse complements are apart.

        Args:
            batch: Sequences.
            length: Bases of each.
            seed: Of the sequences.

        Returns:
            The largest difference; None if the model is to read the strand as given.
        """
        if not self._averages_strands:
            return None
        tokens = self.example_input(batch, length, torch.Generator().manual_seed(seed))
        tokens = tokens.to(self.token_weights.device)
        return (self.predict(tokens) - self.predict(reverse_complement_tokens(tokens))).abs().max().item()

    @property
    def _averages_strands(self) -> bool:
        return self.config.strand == "equivariant" or (self.config.strand == "conjoin" and not self.training)

    def _strand_features(self, one_hot: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is not None:
            one_hot = one_hot * length_mask(lengths, one_hot.shape[1]).unsqueeze(-1)
        features = self.place(self.stem(one_hot))
        return (
            self._pooled(features, lengths)
            if self.config.frames == 1
            else self._best_frame(features, lengths)
        )

    def place(self, features: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Tell every base where it stands, if that means something to the model.

        Args:
            features: What the stem made of the bases.

        Raises:
            UserError: If there are more bases than positions.
        """
        if self.positions is None:
            return features
        length = features.shape[1]
        if length > len(self.positions):
            raise UserError(f"positions: expected at most {len(self.positions)} bases, got {length}")
        return features + self.positions[:length]

    def _best_frame(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Read every frame as a sequence of its own; keep the largest value of each pooled feature."""
        batch, length, frames = features.shape[0], features.shape[1], self.config.frames
        if lengths is None:
            lengths = torch.full((batch,), length, device=features.device)
        padded = F.pad(features, (0, 0, 0, -length % frames))
        codons = padded.unflatten(1, (-1, frames)).movedim(2, 0)  # (frames, batch, codons, dim)
        first = torch.arange(frames, device=features.device).unsqueeze(1)
        counts = (lengths - first + frames - 1) // frames  # 0 in frames that a very short sequence lacks
        pooled = self._pooled(codons.flatten(0, 1), counts.clamp_min(1).flatten()).unflatten(
            0, (frames, batch)
        )
        return pooled.masked_fill((counts == 0).unsqueeze(-1), -torch.inf).amax(dim=0)

    def _pooled(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        reset = None if lengths is None else reset_from_lengths(lengths, features.shape[1])
        hidden = self.backbone(features, reset=reset)
        pooled: Tensor = self.readout(hidden, lengths)
        return pooled

    def _strand_logits(self, one_hot: Tensor, lengths: Tensor | None) -> Tensor:
        logits: Tensor = self.head(self.dropout(self._strand_features(one_hot, lengths)))
        return logits.float()
