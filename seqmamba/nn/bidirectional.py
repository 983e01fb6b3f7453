"""The bidirectional Mamba mixer."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from seqmamba.nn.both_ways import combine_directions, scan_both_ways
from seqmamba.nn.config import MixerConfig
from seqmamba.nn.fused_both_ways import DirectionWeights, mix_both_ways
from seqmamba.nn.mixer import Mixer, no_recurrent_state
from seqmamba.nn.selective import SelectiveSSM, split_channels


class BidirectionalMamba(Mixer):
    """Two selective scans, one a direction, between one input and one output projection.

    This is BiMamba with tied projections (Schiff et al. 2024, "Caduceus", section 4.1): convolution,
    selection and scan have their own weights in each direction. The reverse scan runs right to left over the
    same tensors; nothing is flipped. With y_f and y_r the outputs of the two scans, ``combine`` is

    - ``add``: ``out_proj(y_f + y_r)``, as published;
    - ``concat``: ``out_proj([y_f, y_r])``;
    - ``gate``: ``out_proj(g * y_f + (1 - g) * y_r)``, ``g = sigmoid(W x)``; W is a third part of ``in_proj``.

    Args:
        config: Sizes, initialisation and ``combine``.
    """

    takes_pieces = True

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.combine = config.combine
        self.n_projected = 3 if self.combine == "gate" else 2
        n_outputs = 2 if self.combine == "concat" else 1
        self.in_proj = nn.Linear(config.d_model, self.n_projected * config.d_inner, bias=config.bias)
        self.mamba_fwd = SelectiveSSM(config)
        self.mamba_rev = SelectiveSSM(config)
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
        if self._fuses(x, rate):
            dtype = x.dtype
            forward, reverse = (self._weights(way, dtype) for way in (self.mamba_fwd, self.mamba_rev))
            y = mix_both_ways(x, self.in_proj.weight.to(dtype), forward, reverse, reset)
            return self.out_proj(y), None
        inner, z, *gates = split_channels(self.in_proj(x), self.n_projected)
        if self.combine == "add":
            return self.out_proj(self._scan_both(inner, z, reset, rate)), None
        y_forward, _ = self.mamba_fwd.scan(inner, z, reset=reset, rate=rate)
        y_reverse, _ = self.mamba_rev.scan(inner, z, reset=reset, reverse=True, rate=rate)
        y = combine_directions(y_forward, y_reverse, self.combine, *gates)
        return self.out_proj(y), None

    def _scan_both(self, inner: Tensor, z: Tensor, reset: Tensor | None, rate: float) -> Tensor:
        """Scan both ways and add."""
        forward, _ = self.mamba_fwd.select(inner, reset=reset, rate=rate)
        reverse, _ = self.mamba_rev.select(inner, reverse=True, reset=reset, rate=rate)
        return scan_both_ways(forward, reverse, z, reset, self.mamba_fwd.impl, self.context)

    def _fuses(self, x: Tensor, rate: float) -> bool:
        """Tell whether a gradient is wanted, on a GPU, of what `mix_both_ways` computes."""
        if not (x.is_cuda and torch.is_grad_enabled()) or torch.compiler.is_compiling() or rate != 1:
            return False
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else x.dtype
        known = x.dtype == dtype in (torch.float32, torch.bfloat16)
        return known and self.combine == "add" and self.context is None and self._is_plain()

    def _is_plain(self) -> bool:
        """Tell whether the layers are those of the paper, and nothing was put in the place of one."""
        layers: list[nn.Module] = [self.in_proj]
        for way in (self.mamba_fwd, self.mamba_rev):
            if not way.is_plain:
                return False
            layers += [way.x_proj, way.dt_proj]
        plain = all(type(layer) is nn.Linear and not layer._forward_hooks for layer in layers)
        bias: Tensor | None = getattr(self.in_proj, "bias", None)
        if not plain or bias is not None:
            return False
        return not any(is_traceable_wrapper_subclass(layer.get_parameter("weight")) for layer in layers)

    @staticmethod
    def _weights(way: SelectiveSSM, dtype: torch.dtype) -> DirectionWeights:
        A = way.state_matrix(way.A_log)
        projections = way.x_proj.weight.to(dtype), way.dt_proj.weight.to(dtype)
        conv = way.conv1d
        return DirectionWeights(conv.weight.squeeze(1), conv.bias, *projections, way.dt_proj.bias, A, way.D)
