"""The causal Mamba-2 mixer."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.nn.config import MixerConfig
from seqmamba.nn.dual import StateSpaceDual
from seqmamba.nn.mixer import Mixer, require_unit_rate
from seqmamba.nn.selective import split_channels
from seqmamba.nn.state import Mamba2State


class Mamba2(StateSpaceDual, Mixer):
    """Mamba-2 (Dao & Gu 2024, arXiv:2405.21060, section 7): project in, `StateSpaceDual`, project out.

    ``in_proj`` makes the gate z, x, B, C and delta, in this order. The parameters are named and shaped as in
    the published checkpoints.

    Args:
        config: Sizes and initialisation.

    Raises:
        UserError: If the sizes of ``config.mamba2`` do not fit ``d_model``.
    """

    state_type = Mamba2State
    takes_pieces = True

    def __init__(self, config: MixerConfig) -> None:
        super().__init__(config)
        self.in_proj = nn.Linear(config.d_model, sum(self.projected), bias=config.bias)
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: Mamba2State | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], Mamba2State | None]:
        """Mix along the length; see `Mixer.forward`."""
        require_unit_rate(rate, "mamba2")
        z, inner, delta = split_channels(self.in_proj(x), self.projected)
        y, new_state = self.scan(z, inner, delta, reset=reset, state=state, return_state=return_state)
        return self.out_proj(y), new_state
