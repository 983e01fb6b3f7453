"""A model of what a variant does: two alleles of a sequence in, the effect of the exchange out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genomics.heads import PairedAlleleHead
from genomics.position_models import PositionModel, PositionModelConfig
from seqmamba.errors import UserError
from seqmamba.nn.options import require_bool
from seqmamba.nn.pooling import mean_pool


@dataclass(frozen=True)
class PairedAlleleModelConfig(PositionModelConfig):
    """What a `PairedAlleleModel` is made of.

    Args:
        backbone: The stack of blocks.
        stem_width: Bases that the first layer sees at once, odd.
        strand: How the two strands are read; see `PositionModelConfig`.
        targets: Names of the effects, for example tissues.
        signed: Whether effects have a direction; see `PairedAlleleHead`.

    Raises:
        UserError: If a value is out of range.
    """

    targets: tuple[str, ...] = ("effect",)
    signed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "targets", tuple(self.targets))  # YAML delivers lists
        if not self.targets:
            raise UserError("targets: expected at least one name, got none")
        require_bool("signed", self.signed)


class PairedAlleleModel(PositionModel):
    """One stem and backbone for both alleles, and a head on the difference of their mean hidden states.

    Exchanging the alleles changes the sign of a signed effect. The alleles may differ in length.

    Args:
        config: What to build.
    """

    config_class = PairedAlleleModelConfig
    config: PairedAlleleModelConfig

    def __init__(self, config: PairedAlleleModelConfig) -> None:
        super().__init__(config)
        self.head = PairedAlleleHead(config.backbone.d_model, len(config.targets), config.signed)

    def forward(
        self,
        reference: Int[Tensor, "batch length"],
        alternative: Int[Tensor, "batch other_length"],
        lengths: Int[Tensor, " batch"] | None = None,
        alternative_lengths: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch targets"]:
        """Return the effect of replacing the reference by the alternative allele.

        Args:
            reference: Ids of `genomics.alphabet` of the sequences with the reference allele, padded on the
                right.
            alternative: Those of the same sequences with the alternative allele.
            lengths: True lengths of the former, or None when every sequence fills the batch.
            alternative_lengths: Those of the latter.
        """
        effect: Tensor = self.head(
            self.features(reference, lengths), self.features(alternative, alternative_lengths)
        )
        return effect

    def features(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return the mean hidden state of every sequence, over both strands where the model reads both.

        Args:
            tokens: Ids of `genomics.alphabet`, padded on the right.
            lengths: True lengths, or None when every sequence fills the batch.
        """
        given, other = self.strands(tokens, lengths)
        pooled = mean_pool(given, lengths)
        return pooled if other is None else torch.lerp(pooled, mean_pool(other, lengths), 0.5)

    def symmetry_error(self, batch: int, length: int, seed: int = 0) -> float | None:
        """Measure how far the features of random sequences and of their reverse complements are apart.

        Args:
            batch: Sequences.
            length: Bases of each.
            seed: Of the sequences.

        Returns:
            The largest difference; None if the model is to read the strand as given.
        """
        return self._strand_gap(batch, length, seed, self.features, lambda features: features)
