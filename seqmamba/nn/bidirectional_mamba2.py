"""The bidirectional Mamba-2 mixer."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.nn.both_ways import combine_directions
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.dual import StateSpaceDual
from seqmamba.nn.mixer import Mixer, no_recurrent_state, require_unit_rate
from seqmamba.nn.selective import split_channels


class BidirectionalMamba2(Mixer):
    """Two `StateSpaceDual`, one a direction, between one input and one output projection.

    `BidirectionalMamba` for Mamba-2: the directions share the projections, and with them z, x, B, C and delta
    before the convolution; convolution, A, D, bias of delta and norm are their own. The reverse scan runs
    right to left over the same tensors; nothing is flipped. With y_f and y_r the normalised outputs,
    ``combine`` is

    - ``add``: ``out_proj(y_f + y_r)``;
    - ``concat``: ``out_proj([y_f, y_r])``;
    - ``gate``: ``out_proj(g * y_f + (1 - g) * y_r)``, ``g = sigmoid(W x)``; W is a last part of ``in_proj``.

    Args:
        config: Sizes, initialisation and ``combine``.

    Raises:
        UserError: If the sizes of ``config.mamba2`` do not fit ``d_model``.
    """

    takes_pieces = True

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.combine = config.combine
        self.mamba_fwd = StateSpaceDual(config)
        self.mamba_rev = StateSpaceDual(config)
        gate = (config.d_inner,) if self.combine == "gate" else ()
        self.projected = (*self.mamba_fwd.projected, *gate)
        n_outputs = 2 if self.combine == "concat" else 1
        self.in_proj = nn.Linear(config.d_model, sum(self.projected), bias=config.bias)
        self.out_proj = nn.Linear(n_outputs * config.d_inner, config.d_model, bias=config.bias)

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
        require_unit_rate(rate, "mamba2")
        z, inner, delta, *gates = split_channels(self.in_proj(x), self.projected)
        y_forward, _ = self.mamba_fwd.scan(z, inner, delta, reset=reset)
        y_reverse, _ = self.mamba_rev.scan(z, inner, delta, reset=reset, reverse=True)
        y = combine_directions(y_forward, y_reverse, self.combine, *gates)
        return self.out_proj(y), None
