"""A model that says of every base what it is: background or coding, on which strand and in which frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from genomics.equivariance import mirror
from genomics.gene_labels import SCHEMES, LabelScheme
from genomics.heads import SLICE, SegmentationHead
from genomics.position_models import PositionModel, PositionModelConfig
from seqmamba.nn.options import require_choice, require_whole


@dataclass(frozen=True)
class SegmentationModelConfig(PositionModelConfig):
    """What a `SegmentationModel` is made of.

    Args:
        backbone: The stack of blocks.
        stem_width: Bases that the first layer sees at once, odd.
        strand: How the two strands are read; see `PositionModelConfig`.
        scheme: The classes of a base: ``coding`` or ``genes``; see `genomics.gene_labels`. A training run
            takes it from the data.
        slice_bases: Positions whose logits exist at a time in the loss.

    Raises:
        UserError: If a value is out of range.
    """

    scheme: str = "coding"
    slice_bases: int = SLICE

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("scheme", self.scheme, tuple(SCHEMES))
        require_whole("slice_bases", self.slice_bases)


class SegmentationModel(PositionModel):
    """Stem, backbone and a class for every base.

    It is a `TrackModel`: `genomics track` writes its classes' probabilities along a genome.

    Args:
        config: What to build.
    """

    config_class = SegmentationModelConfig
    config: SegmentationModelConfig

    track_bin = 1
    track_probability = True

    def __init__(self, config: SegmentationModelConfig) -> None:
        super().__init__(config)
        self.head = SegmentationHead(config.backbone.d_model, self.scheme.complement)
        self.track_targets = self.scheme.classes
        self.track_complement = self.scheme.complement

    @property
    def scheme(self) -> LabelScheme:
        """The classes."""
        return SCHEMES[self.config.scheme]

    def forward(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length classes"]:
        """Score the classes of every base.

        Args:
            tokens: Ids of `genomics.alphabet`, padded on the right.
            lengths: True lengths in bases, or None when every sequence fills the batch.

        Returns:
            Logits (float32), meaningless behind the true lengths.
        """
        logits: Tensor = self.head(*self.strands(tokens, lengths))
        return logits

    def loss(
        self,
        tokens: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch length"],
        lengths: Int[Tensor, " batch"] | None = None,
        class_weights: Float[Tensor, " classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of the labelled bases, logits evaluated slice by slice.

        Args:
            tokens: See `forward`.
            labels: Class numbers; `UNKNOWN` where a base does not count, as behind the true lengths.
            lengths: See `forward`.
            class_weights: Weight of a base of each class in the mean.
        """
        given, other = self.strands(tokens, lengths)
        return self.head.loss(labels, given, other, class_weights=class_weights, size=self.config.slice_bases)

    def logit_slices(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Iterator[tuple[slice, Float[Tensor, "batch part classes"]]]:
        """Yield the logits of stretches of ``slice_bases`` positions: those of `forward`, never all at once.

        Args:
            tokens: See `forward`.
            lengths: See `forward`.
        """
        given, other = self.strands(tokens, lengths)
        for start in range(0, tokens.shape[1], self.config.slice_bases):
            here = slice(start, min(start + self.config.slice_bases, tokens.shape[1]))
            yield here, self.head(given[:, here], None if other is None else other[:, here])

    def predict(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length classes"]:
        """Return the probability of every class at every base; see `forward`."""
        return self(tokens, lengths).softmax(dim=-1)

    def predict_track(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return `predict`; see `genomics.track_models.TrackModel`."""
        return self.predict(tokens, lengths)

    def symmetry_error(self, batch: int, length: int, seed: int = 0) -> float | None:
        """Measure how far reading the other strand is from turning the result for random sequences.

        Args:
            batch: Sequences.
            length: Bases of each.
            seed: Of the sequences.

        Returns:
            The largest difference of a probability; None if the model is to read the strand as given.
        """
        swapped = self.head.complement
        return self._strand_gap(batch, length, seed, self.predict, lambda p: mirror(p)[..., swapped])
