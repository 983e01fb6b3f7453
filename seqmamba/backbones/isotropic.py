"""A stack of equal blocks: the same length and width from the input to the output."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal, cast, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seqmamba.backbones.activations import ActivationPlan, StackMemory
from seqmamba.backbones.config import BackboneConfig
from seqmamba.backbones.host_inputs import HostInputs
from seqmamba.backbones.hub import HubModel
from seqmamba.backbones.recomputation import run_again, sparingly
from seqmamba.backbones.state import BackboneState
from seqmamba.errors import UserError
from seqmamba.nn.block import Block
from seqmamba.nn.initialisers import scale_residual_projection
from seqmamba.nn.mixer import no_recurrent_state
from seqmamba.nn.mixers import build_mixer
from seqmamba.nn.mlp import GatedMLP
from seqmamba.nn.norm import NORMS
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.shared_attention import SHARED_ATTENTION, SharedAttentionBlock, SharedTransformer


def build_block(config: BackboneConfig, index: int) -> Block | SharedAttentionBlock:
    """Build one layer of the stack.

    Args:
        config: The stack's options.
        index: Which layer, from 0.
    """
    branches = config.n_layers + sum(map(config.has_mlp, range(config.n_layers)))
    if config.mixer_of(index) == SHARED_ATTENTION:
        place = SharedAttentionBlock(config.d_model, config.dropout, config.bias)
        scale_residual_projection(place.out_proj, branches)
        return place
    mixer = build_mixer(config.mixer_of(index), config)
    scale_residual_projection(mixer.out_proj, branches)
    mlp = None
    if config.has_mlp(index):
        mlp = GatedMLP(config.d_model, config.d_mlp, config.bias)
        scale_residual_projection(mlp.fc2, branches)
    return Block(mixer, config.d_model, config.norm_eps, config.dropout, config.norm, mlp)


def check_features(x: Tensor, reset: Tensor | None, width: int) -> None:
    """Raise a `UserError` unless the arguments of a backbone have the dtypes and shapes that it needs.

    Args:
        x: Must be floating (batch, length >= 1, width).
        reset: Must be bool (batch, length), or ``None``.
        width: Channels.
    """
    if x.ndim != 3 or x.shape[-1] != width or x.shape[1] == 0 or not x.is_floating_point():
        raise UserError(f"x: expected floating (batch, length >= 1, {width}), got {x.dtype} {tuple(x.shape)}")
    if reset is not None and (reset.dtype != torch.bool or reset.shape != x.shape[:2]):
        raise UserError(f"reset: expected bool {tuple(x.shape[:2])}, got {reset.dtype} {tuple(reset.shape)}")


class BlockStack(nn.Module):
    """Pre-norm residual blocks on one residual stream.

    If the pattern has places of ``shared_attention``, the stack holds the layers that they share.

    Args:
        config: Sizes and options.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.memory: StackMemory | None = None  # see `seqmamba.backbones.memory_budget`
        self.layers = nn.ModuleList(build_block(config, index) for index in range(config.n_layers))
        self.shared_attention: SharedTransformer | None = None
        if SHARED_ATTENTION in map(config.mixer_of, range(config.n_layers)):
            self.shared_attention = SharedTransformer(config, config.d_mlp, config.norm, config.norm_eps)

    def run_blocks(
        self,
        hidden: Float[Tensor, "batch length dim"],
        states: tuple[Any, ...] | None = None,
        **options: Any,
    ) -> tuple[Float[Tensor, "batch length dim"], tuple[Any, ...]]:
        """Run all blocks.

        Args:
            hidden: Residual stream, float32 or float64.
            states: One mixer state a block; ``None`` starts a sequence.
            **options: ``reset``, ``return_state`` and ``rate``; see `Mixer.forward`.

        Returns:
            The residual stream, and one new state a block (``None`` unless asked for).
        """
        hidden, branch, new = self.run_deferred(hidden, states, **options)
        return hidden if branch is None else hidden + branch, new

    def run_deferred(
        self, hidden: Tensor, states: tuple[Any, ...] | None = None, **options: Any
    ) -> tuple[Tensor, Tensor | None, tuple[Any, ...]]:
        """Do what `run_blocks` does, but leave the last addition to the norm behind the stack.

        Returns:
            The residual stream, the branch that is still to be added to it if any, and the new states.
        """
        old = (None,) * len(self.layers) if states is None else states
        shared_options = {**options, "shared": self.shared_attention, "stack_input": hidden}
        plan = self._plan(hidden, options.get("rate", 1.0))
        host = HostInputs(hidden.device) if plan.offloaded else None
        branch, new = None, []
        for index, (layer, state) in enumerate(zip(self.layers, old, strict=True)):
            shared = isinstance(layer, SharedAttentionBlock)
            given = shared_options if shared else options
            run: Callable[..., Any] = partial(sparingly, layer) if plan.spares else layer
            if index < plan.recomputed:  # what is kept of its input is one tensor, not two
                parking = nullcontext() if host is None or index >= plan.offloaded else host.parking(hidden)
                keep_scans = index >= plan.recomputed - plan.scans
                with parking:
                    hidden, state = run_again(run, hidden, keep_scans=keep_scans, state=state, **given)
            elif shared:
                hidden, state = run(hidden if branch is None else hidden + branch, state=state, **given)
                branch = None
            else:
                hidden, branch, state = run(hidden, branch, defer=True, state=state, **given)
            new.append(state)
        return hidden, branch, tuple(new)

    def activation_plan(self, hidden: Tensor, rate: float = 1.0) -> ActivationPlan:
        """Return what the blocks keep for the backward pass of a batch.

        Args:
            hidden: The residual stream before the stack, of which shape and dtype count.
            rate: See `Mixer.forward`.
        """
        if self.memory is None:
            return ActivationPlan(len(self.layers) if self.config.checkpoint_activations else 0)
        kinds = {(self.config.mixer_of(i), self.config.has_mlp(i)): x for i, x in enumerate(self.layers)}
        blocks = [partial(self._probed, layer, rate) for layer in kinds.values()]
        return self.memory.plan(hidden, blocks, len(self.layers), self.parameters())

    def _plan(self, hidden: Tensor, rate: float) -> ActivationPlan:
        if not torch.is_grad_enabled():
            return ActivationPlan()
        plan = self.activation_plan(hidden, rate)
        if not plan.fits and self.memory is not None:
            raise self.memory.too_small(hidden, plan)
        return plan

    def _probed(self, layer: nn.Module, rate: float, x: Tensor) -> Tensor:
        shared = isinstance(layer, SharedAttentionBlock)
        given = {"shared": self.shared_attention, "stack_input": x} if shared else {}
        return layer(x, rate=rate, **given)[0]

    def init_states(self, batch_size: int, device: torch.device | str | None) -> tuple[Any, ...]:
        """Return the state of every block before the first position; see `Backbone.init_state`."""
        owners = (
            self.shared_attention if isinstance(layer, SharedAttentionBlock) else layer
            for layer in self.layers
        )
        return tuple(cast(Block, owner).mixer.init_state(batch_size, device) for owner in owners)


class Backbone(BlockStack, HubModel):
    """Pre-norm residual blocks and a last norm, over features.

    A causal backbone gives the same numbers on a whole sequence, on chunks of any length with the state
    carried between them, and one step at a time.

    Args:
        config: Sizes and options.
    """

    config_class = BackboneConfig

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
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
            rate: Training sampling rate over the input's, for mixers whose steps last a time (mamba,
                s4): 2 where the input has half the samples a second.

        Returns:
            Features in the parameters' dtype, and the new state if asked for.

        Raises:
            UserError: If a shape or dtype does not fit, or a bidirectional backbone is to use a state.
        """
        hidden, branch, new = self.run_stream(x, reset, state, return_state, rate)
        y = self.normalise(hidden, branch)
        return (y, new) if return_state else y

    def run_stream(
        self,
        x: Tensor,
        reset: Tensor | None = None,
        state: BackboneState | None = None,
        return_state: bool = False,
        rate: float = 1.0,
    ) -> tuple[Tensor, Tensor | None, BackboneState]:
        """Do what `forward` does, but for the last norm.

        Returns:
            The residual stream, what is still to be added to it if anything, and the new state; `normalise`
            makes features of the first two, of any positions.
        """
        self._check(x, reset, state, return_state)
        states = None if state is None else state.layers
        hidden, branch, new = self.run_deferred(
            at_least_float32(x), states, reset=reset, return_state=return_state, rate=rate
        )
        return hidden, branch, BackboneState(new)

    def normalise(self, hidden: Tensor, branch: Tensor | None) -> Tensor:
        """Return the features of a residual stream, see `run_stream`."""
        return self.norm_f(hidden) if branch is None else self.norm_f(hidden, branch)[0]

    def _check(
        self, x: Tensor, reset: Tensor | None, state: BackboneState | None, return_state: bool
    ) -> None:
        check_features(x, reset, self.config.d_model)
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
        return BackboneState(self.init_states(batch_size, device))
