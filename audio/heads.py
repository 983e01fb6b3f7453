"""From hidden states to logits: of a whole recording, through a pooling, or of every frame."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqmamba.nn.pooling import AttentionPool, max_pool, mean_pool
from seqmamba.nn.precision import at_least_float32

Pooling = Literal["mean", "max", "mean_max", "attention"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "mean_max", "attention")


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
