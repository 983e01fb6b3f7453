"""The bidirectional mixer of patches of a spectrogram or an image."""

from __future__ import annotations

from typing import NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.nn.both_ways import scan_both_ways
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.initialisers import protect
from seqmamba.nn.mixer import Mixer, no_recurrent_state, require_added_directions, require_unit_rate
from seqmamba.nn.selective import SelectiveSSM, split_channels


class VisionMamba(SelectiveSSM, Mixer):
    """One causal convolution and one selection, read by two scans with their own A, added and gated.

    The block that Audio Mamba calls Fo-Bi (Erol et al. 2024, https://arxiv.org/abs/2406.03344), its best one
    when trained from scratch. The block of Vision Mamba (Zhu et al. 2024, https://arxiv.org/abs/2401.09417,
    algorithm 1), Bi-Bi in their words, has a convolution and a selection in each direction: that is the
    ``mamba`` mixer with direction ``bidirectional`` and combine ``add``. This one has no more than a second A
    and a second scan beside a causal block. Parameters are named as in the published code.

    Args:
        config: Sizes and initialisation.

    Raises:
        UserError: If ``config.combine`` is not ``add``.
    """

    takes_pieces = True

    def __init__(self, config: MixerConfig) -> None:
        require_added_directions(config.combine, "vision_mamba")
        super().__init__(config)
        self.in_proj = nn.Linear(config.d_model, 2 * config.d_inner, bias=config.bias)
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=config.bias)
        self.A_b_log = protect(nn.Parameter(self.A_log.detach().clone()))

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Float[Tensor, "batch length dim"], None]:
        """Mix along the length; see `Mixer.forward`.

        Raises:
            UserError: If a state is given or asked for.
        """
        if state is not None or return_state:
            raise no_recurrent_state()
        require_unit_rate(rate, "vision_mamba")
        inner, z = split_channels(self.in_proj(x), 2)
        forward, _ = self.select(inner, reset=reset)
        u, delta, _, B, C, D, bias = forward
        reverse = (u, delta, self.state_matrix(self.A_b_log), B, C, D, bias)
        return self.out_proj(scan_both_ways(forward, reverse, z, reset, self.impl, self.context)), None

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> NoReturn:
        """Refuse; a causal `SelectiveSSM` has a state.

        Raises:
            UserError: Always.
        """
        raise no_recurrent_state()
