"""The causal Mamba mixer."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.nn.config import MixerConfig
from seqmamba.nn.mixer import Mixer
from seqmamba.nn.selective import SelectiveSSM, split_channels
from seqmamba.nn.state import MambaState


class Mamba(SelectiveSSM, Mixer):
    """Mamba (Gu & Dao 2023, section 3.4): project in, convolve, selective scan, gate, project out.

    The parameters are named and shaped as in the published checkpoints.

    Args:
        config: Sizes and initialisation.
    """

    state_type = MambaState
    takes_pieces = True

    def __init__(self, config: MixerConfig) -> None:
        super().__init__(config)
        self.in_proj = nn.Linear(config.d_model, 2 * config.d_inner, bias=config.bias)
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: MambaState | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], MambaState | None]:
        """Mix along the length; see `Mixer.forward`."""
        inner, z = split_channels(self.in_proj(x), 2)
        y, new_state = self.scan(inner, z, reset=reset, state=state, return_state=return_state, rate=rate)
        return self.out_proj(y), new_state
