"""What models with a value for every base have in common: stem, backbone, and the reading of both strands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from genomics.alphabet import A, C, G, T
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.models import Strand
from genomics.stems import StemWidth, build_stem, check_stem_width, token_table
from genomics.vocabulary import Vocabulary
from seqmamba.backbones import BackboneConfig, HubModel, MultiScaleConfig, build_backbone
from seqmamba.nn.options import require_choice
from seqmamba.nn.packing import length_mask, reset_from_lengths

STRANDS = ("forward", "augment", "conjoin", "equivariant")


def _default_backbone() -> BackboneConfig:
    return BackboneConfig(d_model=64, n_layers=4, direction="bidirectional", d_state=8)


@dataclass(frozen=True)
class PositionModelConfig:
    """What stands in front of the head of a model with values for positions.

    Args:
        backbone: The stack of blocks: isotropic or multi-scale, causal or bidirectional.
        stem_width: Bases that the first layer sees at once, odd; several widths share the channels.
        strand: ``forward`` reads the strand as given; ``augment`` trains on random strands; ``conjoin`` also
            averages both strands outside training; ``equivariant`` averages both strands always. Averages
            bring the other strand's values back to the given one: positions turned, classes swapped.
        embedding: See `SequenceModelConfig`.

    Raises:
        UserError: If a value is out of range.
    """

    backbone: BackboneConfig | MultiScaleConfig = field(default_factory=_default_backbone)
    stem_width: StemWidth = 9
    strand: Strand = "conjoin"
    embedding: Vocabulary | None = None

    def __post_init__(self) -> None:
        require_choice("strand", self.strand, STRANDS)
        object.__setattr__(self, "stem_width", check_stem_width(self.stem_width))


class PositionModel(nn.Module, HubModel):
    """Stem and backbone over bases; subclasses add ``head``.

    Padding never influences a result; see `SequenceModel`, whose stem this is.

    Args:
        config: What to build.
    """

    config: PositionModelConfig
    token_weights: Tensor

    def __init__(self, config: PositionModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = build_stem(config.backbone.d_model, config.stem_width, config.embedding)
        self.backbone = build_backbone(config.backbone)
        self.register_buffer("token_weights", token_table(config.embedding), persistent=False)

    @property
    def augments(self) -> bool:
        """Whether training is to see random strands."""
        return self.config.strand in ("augment", "conjoin")

    @property
    def averages_strands(self) -> bool:
        """Whether results are averages over both strands, in the present mode."""
        return self.config.strand == "equivariant" or (self.config.strand == "conjoin" and not self.training)

    def hidden(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch length dim"]:
        """Return the hidden states of the strand as given.

        Args:
            tokens: Ids of `genomics.alphabet`, padded on the right.
            lengths: True lengths, or None when every sequence fills the batch.
        """
        one_hot = F.embedding(tokens.long(), self.token_weights)
        reset = None
        if lengths is not None:
            one_hot = one_hot * length_mask(lengths, tokens.shape[1]).unsqueeze(-1)
            reset = reset_from_lengths(lengths, tokens.shape[1])
        states: Tensor = self.backbone(self.stem(one_hot), reset=reset)
        return states

    def strands(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> tuple[Float[Tensor, "batch length dim"], Float[Tensor, "batch length dim"] | None]:
        """Return what a head takes: the hidden states, and the other strand's laid along them if wanted.

        One strand after the other, since a batch of both needs twice the memory for a million bases.

        Args:
            tokens: See `hidden`.
            lengths: See `hidden`.
        """
        given = self.hidden(tokens, lengths)
        if not self.averages_strands:
            return given, None
        return given, mirror(self.hidden(reverse_complement_tokens(tokens, lengths), lengths), lengths)

    def example_input(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Int[Tensor, "batch length"]:
        """Draw random bases; see `HubModel.example_input`."""
        return torch.tensor([A, C, G, T])[torch.randint(4, (batch, length), generator=generator)]

    @torch.no_grad()
    def _strand_gap(
        self,
        batch: int,
        length: int,
        seed: int,
        values: Callable[[Tensor], Tensor],
        back: Callable[[Tensor], Tensor],
    ) -> float | None:
        """Return the largest difference of ``values(x)`` and ``back(values(rc(x)))`` for random x."""
        if not self.averages_strands:
            return None
        tokens = self.example_input(batch, length, torch.Generator().manual_seed(seed))
        tokens = tokens.to(self.token_weights.device)
        return (values(tokens) - back(values(reverse_complement_tokens(tokens)))).abs().max().item()
