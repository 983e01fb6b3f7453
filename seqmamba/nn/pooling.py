"""One vector a sequence, whatever the padding holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqmamba.distributed import ContextGroup, Piece, gather, total
from seqmamba.errors import UserError
from seqmamba.nn.packing import length_mask
from seqmamba.nn.precision import at_least_float32

PoolingMode = Literal["mean", "max", "last"]


def mean_pool(
    x: Float[Tensor, "batch length dim"],
    lengths: Int[Tensor, " batch"] | None = None,
    context: ContextGroup | None = None,
) -> Float[Tensor, "batch dim"]:
    """Average over the real positions, in float32.

    Args:
        x: Right-padded sequences.
        lengths: True lengths, each at least 1; ``None`` means no padding.
        context: The ranks that hold a piece each of `x`; all get the result. Lengths are of whole sequences.
    """
    wide = at_least_float32(x)
    if context is None and lengths is None:
        return wide.mean(dim=1)
    piece = Piece(context, x)
    sums = _fill_padding(wide, lengths, 0.0, piece).sum(dim=1)
    if context is not None:
        sums = total(context, sums)
    return sums / (piece.total if lengths is None else lengths[:, None])


def max_pool(
    x: Float[Tensor, "batch length dim"],
    lengths: Int[Tensor, " batch"] | None = None,
    context: ContextGroup | None = None,
) -> Float[Tensor, "batch dim"]:
    """Take each channel's largest value over the real positions.

    Args:
        x: Right-padded sequences.
        lengths: True lengths, each at least 1; ``None`` means no padding.
        context: See `mean_pool`.
    """
    if lengths is not None:
        x = _fill_padding(x, lengths, -torch.inf, Piece(context, x))
    largest = at_least_float32(x.amax(dim=1))
    return largest if context is None else gather(context, largest).amax(dim=0)


def last_pool(
    x: Float[Tensor, "batch length dim"],
    lengths: Int[Tensor, " batch"] | None = None,
    context: ContextGroup | None = None,
) -> Float[Tensor, "batch dim"]:
    """Take the last real position, where a causal backbone has seen everything.

    Args:
        x: Right-padded sequences.
        lengths: True lengths, each at least 1; ``None`` means no padding.
        context: See `mean_pool`.
    """
    if context is None:
        at: Tensor | int = -1 if lengths is None else lengths - 1
        return at_least_float32(x[torch.arange(len(x), device=x.device), at])
    piece = Piece(context, x)
    last = torch.full((len(x),), piece.total, device=x.device) if lengths is None else lengths
    place = last - 1 - piece.own.start
    inside = (place >= 0) & (place < x.shape[1])
    rows = x[torch.arange(len(x), device=x.device), place.clamp(0, x.shape[1] - 1)]
    return total(context, at_least_float32(rows).masked_fill(~inside[:, None], 0))


def _fill_padding(x: Tensor, lengths: Tensor | None, value: float, piece: Piece) -> Tensor:
    if lengths is None:
        return x
    real = length_mask(lengths, piece.total)[:, piece.own]
    return x.masked_fill(~real[..., None], value)


POOLINGS: dict[str, Callable[[Tensor, Tensor | None, ContextGroup | None], Tensor]] = {
    "mean": mean_pool,
    "max": max_pool,
    "last": last_pool,
}


def pool(
    x: Float[Tensor, "batch length dim"],
    lengths: Int[Tensor, " batch"] | None,
    mode: PoolingMode,
    context: ContextGroup | None = None,
) -> Float[Tensor, "batch dim"]:
    """Pool right-padded sequences; the values in the padding, NaN included, do not matter.

    Args:
        x: Any floating dtype.
        lengths: True lengths, each at least 1; ``None`` means no padding.
        mode: ``mean``, ``max`` or ``last``.
        context: See `mean_pool`.

    Returns:
        One float32 vector a sequence.

    Raises:
        UserError: If there is no such mode.
    """
    if mode not in POOLINGS:
        raise UserError(f"pooling: expected one of {', '.join(POOLINGS)}, got {mode!r}")
    return POOLINGS[mode](x, lengths, context)


class AttentionPool(nn.Module):
    """A weighted mean over the true positions, with weights that a small network reads off each position.

    Attentive statistics without the deviations (Okabe et al. 2018, arXiv:1803.10963, section 3.1).

    Args:
        dim: Channels of the hidden states.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, max(1, dim // 4))
        self.score = nn.Linear(max(1, dim // 4), 1, bias=False)

    context: ContextGroup | None = None

    def forward(
        self, x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Pool right-padded sequences; what stands in the padding does not matter.

        Args:
            x: Hidden states.
            lengths: True lengths, each at least 1; None means no padding.
        """
        scores = at_least_float32(self.score(torch.tanh(self.hidden(x))))
        wide = at_least_float32(x)
        if lengths is not None:
            piece = Piece(self.context, x)
            scores = _fill_padding(scores, lengths, -torch.inf, piece)
            wide = _fill_padding(wide, lengths, 0.0, piece)
        if self.context is None:
            return (scores.softmax(dim=1) * wide).sum(dim=1)
        # A constant taken from all scores changes no weight, and needs no gradient.
        largest = self.context.gather(scores.detach().amax(dim=1)).amax(dim=0)
        weights = torch.exp(scores - largest[:, None])
        sums = total(self.context, torch.cat(((weights * wide).sum(dim=1), weights.sum(dim=1)), dim=-1))
        return sums[:, :-1] / sums[:, -1:]
