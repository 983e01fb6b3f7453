"""The three ways to run a causal backbone, and how far apart their numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.backbones.isotropic import Backbone
from seqmamba.errors import UserError
from seqmamba.inference.stream import Stream


@dataclass(frozen=True)
class ModeReport:
    """Largest absolute differences from the whole-sequence output.

    Attributes:
        chunked: In chunks with the state carried between them.
        stepwise: One position at a time.
        scale: Largest absolute value of the whole-sequence output, to judge the others by.
    """

    chunked: float
    stepwise: float
    scale: float

    @property
    def worst(self) -> float:
        """The larger of the two differences."""
        return max(self.chunked, self.stepwise)


@torch.no_grad()
def run_whole(backbone: Backbone, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
    """Run a sequence in one call.

    Args:
        backbone: Any backbone.
        x: Features.
    """
    return backbone(x)


def run_chunked(
    backbone: Backbone, x: Float[Tensor, "batch length dim"], cuts: Sequence[int]
) -> Float[Tensor, "batch length dim"]:
    """Run a sequence in chunks, carrying the state.

    Args:
        backbone: A causal backbone.
        x: Features.
        cuts: Increasing positions strictly inside the sequence, where a new chunk starts.

    Raises:
        UserError: If the cuts are out of order or range, or the backbone is bidirectional.
    """
    edges = [0, *cuts, x.shape[1]]
    if any(left >= right for left, right in pairwise(edges)):
        raise UserError(
            f"cuts: expected increasing positions between 1 and {x.shape[1] - 1}, got {list(cuts)}"
        )
    stream = Stream(backbone, len(x))
    chunks = pairwise(edges)
    return torch.cat([stream.feed(x[:, left:right]) for left, right in chunks], dim=1)


def run_stepwise(
    backbone: Backbone, x: Float[Tensor, "batch length dim"]
) -> Float[Tensor, "batch length dim"]:
    """Run a sequence one position at a time, carrying the state.

    Args:
        backbone: A causal backbone.
        x: Features.

    Raises:
        UserError: If the backbone is bidirectional.
    """
    return run_chunked(backbone, x, range(1, x.shape[1]))


def compare_modes(
    backbone: Backbone, x: Float[Tensor, "batch length dim"], cuts: Sequence[int] | None = None
) -> ModeReport:
    """Run a sequence all three ways and measure the differences.

    Dropout would make every call differ, so the backbone is put in evaluation mode meanwhile.

    Args:
        backbone: A causal backbone.
        x: Features of at least two positions.
        cuts: Where the chunks start; by default uneven thirds.

    Raises:
        UserError: If the backbone is bidirectional.
    """
    length = x.shape[1]
    if cuts is None:
        cuts = sorted(
            {cut for cut in (length // 3, length // 3 + 1, length - length // 4) if 0 < cut < length}
        )
    was_training = backbone.training
    backbone.eval()
    try:
        whole = run_whole(backbone, x)
        chunked = run_chunked(backbone, x, cuts)
        stepwise = run_stepwise(backbone, x)
    finally:
        backbone.train(was_training)
    return ModeReport(
        chunked=(chunked - whole).abs().max().item(),
        stepwise=(stepwise - whole).abs().max().item(),
        scale=whole.abs().max().item(),
    )
