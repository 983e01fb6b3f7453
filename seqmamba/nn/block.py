"""The residual block around a mixer."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.nn.context import mix_pieces
from seqmamba.nn.mixer import Mixer
from seqmamba.nn.norm import NORMS, NormKind


class Block(nn.Module):
    """``x + dropout(mixer(norm(x)))``, then if asked for the same around an MLP; sums in float32 or wider.

    Args:
        mixer: Moves information along the sequence.
        dim: Channels.
        norm_eps: Epsilon of the norms.
        dropout: Probability of dropping a channel of a branch.
        norm: Kind of the norms.
        mlp: Mixes the channels of each position after the mixer; ``None``: no second branch.
    """

    def __init__(
        self,
        mixer: Mixer,
        dim: int,
        norm_eps: float,
        dropout: float,
        norm: NormKind = "rms",
        mlp: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm = NORMS[norm](dim, norm_eps)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)
        self.mlp = mlp
        self.norm2 = None if mlp is None else NORMS[norm](dim, norm_eps)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        branch: Float[Tensor, "batch length dim"] | None = None,
        *,
        defer: bool = False,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: Any = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Any, ...]:
        """Add the mixer's output to the residual stream.

        Between two blocks the addition can wait for the norm behind it, which adds in its own pass: a block
        called with ``defer`` leaves its last branch to be added by the next, which takes it as ``branch``.

        Args:
            x: Residual stream, float32 or float64.
            branch: What is to be added to it first.
            defer: Whether to leave the last addition to the caller.
            reset: See `Mixer.forward`.
            state: See `Mixer.forward`.
            return_state: See `Mixer.forward`.
            rate: See `Mixer.forward`.

        Returns:
            The residual stream in the dtype of ``x``, and the mixer's new state; with ``defer`` the residual
            stream, the branch that is missing in it, and the state.
        """
        self.mixer.require_own_state(state)
        dtype = norm_dtype(x)
        normed, x = (self.norm(x, dtype=dtype), x) if branch is None else self.norm(x, branch, dtype=dtype)
        options: dict[str, Any] = {"state": state, "return_state": return_state, "rate": rate}
        y, state = mix_pieces(self.mixer, normed, reset, **options)
        y = self.dropout(y)
        if self.mlp is not None and self.norm2 is not None:
            normed, x = self.norm2(x, y, dtype=dtype)
            y = self.dropout(self.mlp(normed))
        return (x, y, state) if defer else (x + y, state)


def stream_behind(output: tuple[Any, ...]) -> Tensor:
    """Return the residual stream behind a block, for forward hooks that look at it.

    Args:
        output: What the block returned, whether or not its last addition waits.
    """
    return output[0] + output[1] if len(output) == 3 else output[0]


def norm_dtype(x: Tensor) -> torch.dtype | None:
    """Return what CUDA's autocast would round a mixer's input to, so that the norm does it in the same pass.

    Args:
        x: Residual stream.

    Returns:
        That dtype; ``None``, the norm's own, where nothing is to be rounded.
    """
    if x.device.type != "cuda" or x.dtype == torch.float64 or not torch.is_autocast_enabled("cuda"):
        return None
    return torch.get_autocast_dtype("cuda")
