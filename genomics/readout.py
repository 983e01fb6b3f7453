"""How the hidden states of a sequence's bases become one vector."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.nn.packing import length_mask
from seqmamba.nn.pooling import AttentionPool, max_pool, mean_pool
from seqmamba.nn.precision import at_least_float32

Pooling = Literal["mean", "max", "mean_max", "attention", "flatten"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

_POOLS = {"mean": (mean_pool,), "max": (max_pool,), "mean_max": (mean_pool, max_pool)}


class Readout(nn.Module):
    """One float32 vector a sequence, whatever its padding holds.

    Args:
        dim: Channels of the hidden states.
        pooling: ``mean``, ``max``, or ``mean_max``, both side by side; ``attention``, a mean whose weights
            are read off the hidden states; or ``flatten``, all positions side by side, so that the head has
            weights of its own for each.
        positions: Longest sequence, which ``flatten`` makes all others as long as; the others do not read it.

    Attributes:
        features: Length of the vector.
    """

    def __init__(self, dim: int, pooling: Pooling, positions: int = 0) -> None:
        super().__init__()
        self.pooling, self.positions = pooling, positions
        self.attention = AttentionPool(dim) if pooling == "attention" else None
        self.features = dim * {"mean_max": 2, "flatten": positions}.get(pooling, 1)

    def forward(
        self, hidden: Float[Tensor, "batch length dim"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch features"]:
        """Read right-padded sequences.

        Args:
            hidden: What the backbone made of the bases.
            lengths: True lengths, each at least 1; None means no padding.
        """
        if self.attention is not None:
            pooled: Tensor = self.attention(hidden, lengths)
            return pooled
        if self.pooling == "flatten":
            wide = at_least_float32(hidden)
            if lengths is not None:
                wide = wide.masked_fill(~length_mask(lengths, hidden.shape[1])[..., None], 0)
            return F.pad(wide, (0, 0, 0, self.positions - hidden.shape[1])).flatten(1)
        return torch.cat([pool(hidden, lengths) for pool in _POOLS[self.pooling]], dim=-1)
