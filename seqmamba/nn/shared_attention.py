"""Attention with one set of weights for all its places in the depth, as in Zamba."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.nn.attention import Attention
from seqmamba.nn.block import norm_dtype
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mlp import GatedMLP
from seqmamba.nn.norm import NORMS, NormKind
from seqmamba.nn.state import AttentionState

SHARED_ATTENTION = "shared_attention"
"""The name in a pattern of layers. It is no mixer: it needs the stack's input and weights from outside."""


class SharedTransformer(nn.Module):
    """What the places share: ``mlp(norm2(attention(norm([x, x_0]))))``.

    x is the residual stream and x_0 the stack's input, which each place sees afresh. As published there is no
    residual connection inside (Glorioso et al. 2024, arXiv:2405.16712, figure 2).

    Args:
        config: Of the attention, whose input has ``2 * d_model`` channels.
        d_mlp: Channels inside the MLP.
        norm: Kind of the norms.
        norm_eps: Epsilon of the norms.
    """

    def __init__(
        self, config: MixerConfig, d_mlp: int, norm: NormKind = "rms", norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        width = config.d_model
        self.norm = NORMS[norm](2 * width, norm_eps)
        self.mixer = Attention(config, d_input=2 * width)
        self.norm2 = NORMS[norm](width, norm_eps)
        self.mlp = GatedMLP(width, d_mlp, config.bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        stack_input: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: AttentionState | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], AttentionState | None]:
        """Compute what one place projects and adds.

        Args:
            x: Residual stream.
            stack_input: Residual stream before the first block.
            reset: See `Mixer.forward`.
            state: The place's own cache; see `Mixer.forward`.
            return_state: See `Mixer.forward`.
            rate: See `Mixer.forward`.
        """
        self.mixer.require_own_state(state)
        dtype = norm_dtype(x)
        both = self.norm(torch.cat((x, stack_input), dim=-1), dtype=dtype)
        y, new_state = self.mixer(both, reset=reset, state=state, return_state=return_state, rate=rate)
        return self.mlp(self.norm2(y, dtype=dtype)), new_state


class SharedAttentionBlock(nn.Module):
    """One place in the depth: ``x + dropout(out_proj(shared(x, x_0)))``, with a projection of its own.

    In Zamba what is added here reaches the next Mamba's input only; here it stays in the residual stream, as
    the output of every block does. The shared weights come with each call, so that the stack holds, saves and
    shards them once.

    Args:
        dim: Channels.
        dropout: Probability of dropping a channel of the branch.
        bias: Whether the projection has a bias.
    """

    def __init__(self, dim: int, dropout: float, bias: bool = False) -> None:
        super().__init__()
        self.out_proj = nn.Linear(dim, dim, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        shared: SharedTransformer,
        stack_input: Float[Tensor, "batch length dim"],
        **options: Any,
    ) -> tuple[Float[Tensor, "batch length dim"], AttentionState | None]:
        """Add the projected output of the shared layers to the residual stream.

        Args:
            x: Residual stream, float32 or float64.
            shared: The weights of all places.
            stack_input: Residual stream before the first block.
            **options: ``reset``, ``state``, ``return_state`` and ``rate``; see `Mixer.forward`.
        """
        y, state = shared(x, stack_input, **options)
        return x + self.dropout(self.out_proj(y)), state
