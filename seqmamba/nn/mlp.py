"""The gated feed-forward layer."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class GatedMLP(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202): ``fc2(a * silu(g))`` with ``a, g = fc1(x)``.

    Args:
        dim: Channels.
        hidden: Channels in between.
        bias: Whether the two linear layers have a bias.
    """

    def __init__(self, dim: int, hidden: int, bias: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """Transform each position."""
        value, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(value * F.silu(gate))
