"""The three ways to run a causal model, and how far apart their numbers are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.inference.model import CausalModel, evaluation_mode
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
        """The larger of the two differences, NaN if one is."""
        return math.nan if math.isnan(self.stepwise) else max(self.chunked, self.stepwise)


@torch.no_grad()
def run_whole(
    model: CausalModel, x: Shaped[Tensor, "batch length *channels"]
) -> Float[Tensor, "batch length outputs"]:
    """Run a sequence in one call.

    Args:
        model: Any backbone, or a model over tokens.
        x: Features or tokens.
    """
    return model(x)


def run_chunked(
    model: CausalModel, x: Shaped[Tensor, "batch length *channels"], cuts: Sequence[int]
) -> Float[Tensor, "batch length outputs"]:
    """Run a sequence in chunks, carrying the state.

    Args:
        model: A causal backbone or language model.
        x: Features or tokens.
        cuts: Increasing positions strictly inside the sequence, where a new chunk starts.

    Raises:
        UserError: If the cuts are out of order or range, or the model is bidirectional.
    """
    edges = [0, *cuts, x.shape[1]]
    if any(left >= right for left, right in pairwise(edges)):
        raise UserError(
            f"cuts: expected increasing positions between 1 and {x.shape[1] - 1}, got {list(cuts)}"
        )
    stream = Stream(model, len(x))
    chunks = pairwise(edges)
    return torch.cat([stream.feed(x[:, left:right]) for left, right in chunks], dim=1)


def run_stepwise(
    model: CausalModel, x: Shaped[Tensor, "batch length *channels"]
) -> Float[Tensor, "batch length outputs"]:
    """Run a sequence one position at a time, carrying the state.

    Args:
        model: A causal backbone or language model.
        x: Features or tokens.

    Raises:
        UserError: If the model is bidirectional.
    """
    return run_chunked(model, x, range(1, x.shape[1]))


def compare_modes(
    model: CausalModel, x: Shaped[Tensor, "batch length *channels"], cuts: Sequence[int] | None = None
) -> ModeReport:
    """Run a sequence all three ways and measure the differences.

    Dropout would make every call differ, so the model is put in evaluation mode meanwhile.

    Args:
        model: A causal backbone or language model.
        x: Features or tokens of at least two positions.
        cuts: Where the chunks start; by default uneven thirds.

    Raises:
        UserError: If the model is bidirectional.
    """
    length = x.shape[1]
    if cuts is None:
        cuts = sorted(
            {cut for cut in (length // 3, length // 3 + 1, length - length // 4) if 0 < cut < length}
        )
    with evaluation_mode(model):
        whole = run_whole(model, x)
        chunked = run_chunked(model, x, cuts)
        stepwise = run_stepwise(model, x)
    return ModeReport(
        chunked=(chunked - whole).abs().max().item(),
        stepwise=(stepwise - whole).abs().max().item(),
        scale=whole.abs().max().item(),
    )
