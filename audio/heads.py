"""From hidden states to logits: of a whole recording, through a pooling, or of every frame."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqmamba.nn.packing import length_mask
from seqmamba.nn.pooling import max_pool, mean_pool
from seqmamba.nn.precision import at_least_float32

Pooling = Literal["mean", "max", "mean_max", "attention"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "mean_max", "attention")


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


class ClipHead(nn.Module):
    """Logits of a whole recording: pool, drop some features in training, a linear layer.

    Args:
        dim: Channels of the hidden states.
        outputs: Number of logits.
        pooling: ``mean``, ``max``, both side by side, or ``attention``.
        dropout: Probability of dropping a pooled feature.
    """

    def __init__(self, dim: int, outputs: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        self.pooling = pooling
        self.attention = AttentionPool(dim) if pooling == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * dim if pooling == "mean_max" else dim, outputs)

    def pool(
        self, x: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch features"]:
        """Return one float32 vector a recording.

        Args:
            x: Hidden states, padded on the right.
            lengths: True lengths; None means no padding.
        """
        if self.attention is not None:
            pooled: Tensor = self.attention(x, lengths)
            return pooled
        pools = {"mean": (mean_pool,), "max": (max_pool,), "mean_max": (mean_pool, max_pool)}[self.pooling]
        return torch.cat([pool(x, lengths) for pool in pools], dim=-1)

    def forward(self, pooled: Float[Tensor, "batch features"]) -> Float[Tensor, "batch outputs"]:
        """Return the logits, float32, of what `pool` returned."""
        return at_least_float32(self.linear(self.dropout(pooled)))


class FrameHead(nn.Module):
    """Logits of every frame: drop some features in training, a linear layer.

    Args:
        dim: Channels of the hidden states.
        outputs: Number of logits.
        dropout: Probability of dropping a feature.
    """

    def __init__(self, dim: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, outputs)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length outputs"]:
        """Return the logits, float32."""
        return at_least_float32(self.linear(self.dropout(x)))
