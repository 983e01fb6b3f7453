"""Several models of one kind that answer together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genomics.models import SequenceModel, SequenceModelConfig, TaskName
from seqmamba.backbones import HubModel
from seqmamba.nn.options import require_whole


@dataclass(frozen=True)
class EnsembleConfig:
    """What an `EnsembleModel` is made of.

    Args:
        member: What each of its members is made of.
        members: How many there are.

    Raises:
        UserError: If there is none.
    """

    member: SequenceModelConfig
    members: int

    def __post_init__(self) -> None:
        require_whole("members", self.members)

    @property
    def task(self) -> TaskName:
        """What the members predict."""
        return self.member.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, or target names for regression."""
        return self.member.classes

    @property
    def max_length(self) -> int | None:
        """Longest sequence that the members were trained on, in bases; None when nothing was cropped."""
        return self.member.max_length


class EnsembleModel(nn.Module, HubModel):
    """The mean of what its members predict (Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4).

    Args:
        config: What to build.
    """

    config_class = EnsembleConfig

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(SequenceModel(config.member) for _ in range(config.members))

    @classmethod
    def of(cls, members: Sequence[SequenceModel]) -> EnsembleModel:
        """Put trained models of one configuration together; their weights are copied.

        Args:
            members: At least one.
        """
        ensemble = cls(EnsembleConfig(members[0].config, len(members)))
        for own, member in zip(ensemble.members, members, strict=True):
            own.load_state_dict(member.state_dict())
        return ensemble.eval()

    def forward(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return mean probabilities, or mean values in the units of the training targets.

        Args:
            tokens: Ids of `genomics.alphabet`, padded on the right.
            lengths: True lengths in bases, or None when every sequence fills the batch.
        """
        return torch.stack([member.predict(tokens, lengths) for member in self._members()]).mean(dim=0)

    def predict(
        self, tokens: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Return what `forward` does, under the name that `SequenceModel` has for it."""
        predictions: Tensor = self(tokens, lengths)
        return predictions

    def example_input(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Int[Tensor, "batch length"]:
        """Draw random bases; see `HubModel.example_input`."""
        return next(self._members()).example_input(batch, length, generator)

    def _members(self) -> Iterator[SequenceModel]:
        return (cast(SequenceModel, member) for member in self.members)
