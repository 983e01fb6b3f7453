"""One vector a sequence, whatever the padding holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqmamba.errors import UserError
from seqmamba.nn.packing import length_mask
from seqmamba.nn.precision import at_least_float32

PoolingMode = Literal["mean", "max", "last"]


def mean_pool(
    x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch dim"]:
    """Average over the real positions, in float32.

    Args:
        x: Right-padded sequences.
        lengths: True lengths, each at least 1; ``None`` means no padding.
    """
    wide = at_least_float32(x)
    if lengths is None:
        return wide.mean(dim=1)
    total = wide.masked_fill(~length_mask(lengths, x.shape[1])[..., None], 0).sum(dim=1)
    return total / lengths[:, None]


def max_pool(
    x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch dim"]:
    """Take each channel's largest value over the real positions.

    Args:
        x: Right-padded sequences.
        lengths: True lengths, each at least 1; ``None`` means no padding.
    """
    if lengths is not None:
        x = x.masked_fill(~length_mask(lengths, x.shape[1])[..., None], -torch.inf)
    return at_least_float32(x.amax(dim=1))


def last_pool(
    x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch dim"]:
    """Take the last real position, where a causal backbone has seen everything.

    Args:
        x: Right-padded sequences.
        lengths: True lengths, each at least 1; ``None`` means no padding.
    """
    if lengths is None:
        return at_least_float32(x[:, -1])
    return at_least_float32(x[torch.arange(len(x), device=x.device), lengths - 1])


POOLINGS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "mean": mean_pool,
    "max": max_pool,
    "last": last_pool,
}


def pool(
    x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None, mode: PoolingMode
) -> Float[Tensor, "batch dim"]:
    """Pool right-padded sequences; the values in the padding, NaN included, do not matter.

    Args:
        x: Any floating dtype.
        lengths: True lengths, each at least 1; ``None`` means no padding.
        mode: ``mean``, ``max`` or ``last``.

    Returns:
        One float32 vector a sequence.

    Raises:
        UserError: If there is no such mode.
    """
    if mode not in POOLINGS:
        raise UserError(f"pooling: expected one of {', '.join(POOLINGS)}, got {mode!r}")
    return POOLINGS[mode](x, lengths)


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
            padding = ~length_mask(lengths, x.shape[1])[..., None]
            scores, wide = scores.masked_fill(padding, -torch.inf), wide.masked_fill(padding, 0)
        return (scores.softmax(dim=1) * wide).sum(dim=1)
