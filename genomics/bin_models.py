"""A model of tracks: values for every bin of bases, such as coverage or accessibility."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from genomics.heads import SLICE, TrackHead, TrackLoss
from genomics.position_models import PositionModel, PositionModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole


@dataclass(frozen=True)
class BinnedTrackModelConfig(PositionModelConfig):
    """What a `BinnedTrackModel` is made of.

    Args:
        backbone: The stack of blocks.
        stem_width: Bases that the first layer sees at once, odd.
        strand: How the two strands are read; see `PositionModelConfig`; averages suit
            tracks without a strand.
        targets: Names of the tracks.
        bin_size: Bases of a bin.
        loss: ``poisson`` for counts and rates, ``mse`` for any values; see `TrackHead`.
        slice_bases: Positions whose values exist at a time in the loss.

    Raises:
        UserError: If a value is out of range.
    """

    targets: tuple[str, ...] = ("signal",)
    bin_size: int = 128
    loss: TrackLoss = "poisson"
    slice_bases: int = SLICE

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", tuple(self.targets))  # YAML delivers lists
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise UserError(f"targets: expected different names, at least one, got {list(self.targets)}")
        require_whole("bin_size", self.bin_size)
        require_whole("slice_bases", self.slice_bases)
        require_choice("loss", self.loss, ("poisson", "mse"))


class BinnedTrackModel(PositionModel):
    """Stem, backbone and values for every bin of bases. It is a `TrackModel`.

    Args:
        config: What to build.
    """

    config_class = BinnedTrackModelConfig
    config: BinnedTrackModelConfig

    def __init__(self, config: BinnedTrackModelConfig) -> None:
        super().__init__(config)
        self.head = TrackHead(config.backbone.d_model, len(config.targets), config.bin_size, config.loss)
        self.track_targets = config.targets
        self.track_bin = config.bin_size

    def forward(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch bins targets"]:
        """Return the values of every bin: rates for ``poisson``.

        Args:
            tokens: Ids of `genomics.alphabet`, padded on the right; a whole number of bins.
            lengths: True lengths, whole numbers of bins, or None when every sequence fills the batch.
        """
        values: Tensor = self.head(*self.strands(tokens, lengths))
        return values

    def loss(
        self,
        tokens: Int[Tensor, "batch length"],
        targets: Float[Tensor, "batch bins targets"],
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss over the values that are not NaN, evaluated slice by slice.

        Args:
            tokens: See `forward`.
            targets: True values; NaN where there is none, as behind the true lengths.
            lengths: See `forward`.
        """
        given, other = self.strands(tokens, lengths)
        return self.head.loss(targets, given, other, size=self.config.slice_bases)

    def predict_track(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the values; see `genomics.track_models.TrackModel`."""
        values: Tensor = self(tokens, lengths)
        return values

    def symmetry_error(self, batch: int, length: int, seed: int = 0) -> float | None:
        """Measure how far the values of the other strand are from the turned ones for random sequences.

        Args:
            batch: Sequences.
            length: Bases of each; rounded up to whole bins.
            seed: Of the sequences.

        Returns:
            The largest difference; None if the model is to read the strand as given.
        """
        whole = -(-length // self.config.bin_size) * self.config.bin_size
        return self._strand_gap(batch, whole, seed, self, lambda values: values.flip(1))
