"""A stack of equal blocks: the same length and width from the input to the output."""

from __future__ import annotations

from typing import Any, Literal, cast, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.hub import HubModel
from seqmamba.backbones.state import BackboneState
from seqmamba.errors import UserError
from seqmamba.nn.block import Block
from seqmamba.nn.initialisers import scale_residual_projection
from seqmamba.nn.mixer import no_recurrent_state
from seqmamba.nn.mixers import build_mixer
from seqmamba.nn.mlp import GatedMLP
from seqmamba.nn.norm import NORMS
from seqmamba.nn.precision import at_least_float32


def build_block(config: BackboneConfig, index: int) -> Block:
    """Build one layer of the stack.

    Args:
        config: The stack's options.
        index: Which layer, from 0.
    """
    mixer = build_mixer(config.mixer_of(index), config)
    branches = config.n_layers + sum(map(config.has_mlp, range(config.n_layers)))
    scale_residual_projection(mixer.out_proj, branches)
    mlp = None
    if config.has_mlp(index):
        mlp = GatedMLP(config.d_model, config.d_mlp, config.bias)
        scale_residual_projection(mlp.fc2, branches)
    return Block(mixer, config.d_model, config.norm_eps, config.dropout, config.norm, mlp)


class Backbone(nn.Module, HubModel):
    """Pre-norm residual blocks and a last norm, over features.

    A causal backbone gives the same numbers on a whole sequence, on chunks of any length with the state
    carried between them, and one step at a time.

    Args:
        config: Sizes and options.
    """

    config_class = BackboneConfig

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(build_block(config, index) for index in range(config.n_layers))
        self.norm_f = NORMS[config.norm](config.d_model, config.norm_eps)

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        reset: Tensor | None = ...,
        state: BackboneState | None = ...,
        return_state: Literal[False] = ...,
        rate: float = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        reset: Tensor | None = ...,
        state: BackboneState | None = ...,
        return_state: Literal[True],
        rate: float = ...,
    ) -> tuple[Tensor, BackboneState]: ...

    def forward(
        self,
        x: Float[Tensor, "batch length dim"],
        *,
        reset: Bool[Tensor, "batch length"] | None = None,
        state: BackboneState | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> Float[Tensor, "batch length dim"] | tuple[Float[Tensor, "batch length dim"], BackboneState]:
        """Run all blocks.

        Args:
            x: Features, any floating dtype; at least one position.
            reset: True where a new packed sequence starts; see `seqmamba.nn.packing`.
            state: State after the previous chunk, causal only; ``None`` starts a sequence.
            return_state: Whether to return the state too.
            rate: Training sampling rate over the input's, for mixers whose steps have a length in time (s4):
                2 where the input has half the samples a second.

        Returns:
            Features in the parameters' dtype, and the new state if asked for.

        Raises:
            UserError: If a shape or dtype does not fit, or a bidirectional backbone is to use a state.
        """
        self._check(x, reset, state, return_state)
        hidden = at_least_float32(x)
        old: tuple[Any, ...] = (None,) * len(self.layers) if state is None else state.layers
        new = []
        for layer, layer_state in zip(self.layers, old, strict=True):
            options = {"reset": reset, "state": layer_state, "return_state": return_state, "rate": rate}
            hidden, layer_state = self._run(layer, hidden, options)
            new.append(layer_state)
        y = self.norm_f(hidden)
        return (y, BackboneState(tuple(new))) if return_state else y

    def _run(self, layer: nn.Module, hidden: Tensor, options: dict[str, Any]) -> tuple[Tensor, Any]:
        if self.config.checkpoint_activations and torch.is_grad_enabled():
            return checkpoint(layer, hidden, use_reentrant=False, **options)
        return layer(hidden, **options)

    def _check(
        self, x: Tensor, reset: Tensor | None, state: BackboneState | None, return_state: bool
    ) -> None:
        width = self.config.d_model
        if x.ndim != 3 or x.shape[-1] != width or x.shape[1] == 0 or not x.is_floating_point():
            raise UserError(
                f"x: expected floating (batch, length >= 1, {width}), got {x.dtype} {tuple(x.shape)}"
            )
        if reset is not None and (reset.dtype != torch.bool or reset.shape != x.shape[:2]):
            raise UserError(
                f"reset: expected bool {tuple(x.shape[:2])}, got {reset.dtype} {tuple(reset.shape)}"
            )
        if (state is not None or return_state) and self.config.direction != "causal":
            raise no_recurrent_state()
        if state is not None and len(state.layers) != len(self.layers):
            raise UserError(f"state: expected {len(self.layers)} layers, got {len(state.layers)}")

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> BackboneState:
        """Return the state before the first position: zeros, float32.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.

        Raises:
            UserError: If the backbone is bidirectional.
        """
        blocks = (cast(Block, layer) for layer in self.layers)
        return BackboneState(tuple(block.mixer.init_state(batch_size, device) for block in blocks))
