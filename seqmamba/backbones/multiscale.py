"""A U-shaped stack: blocks at coarser and coarser resolution, then back to every position."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from seqmamba.backbones.hub import HubModel
from seqmamba.backbones.isotropic import BlockStack, check_features
from seqmamba.backbones.multiscale_config import MultiScaleConfig
from seqmamba.backbones.state import BackboneState
from seqmamba.errors import UserError
from seqmamba.nn.alignment import FrameLayout, align, lone_layout
from seqmamba.nn.mixer import no_recurrent_state
from seqmamba.nn.norm import NORMS
from seqmamba.nn.precision import at_least_float32
from seqmamba.nn.resampling import DownPool, UpPool
from seqmamba.nn.state import MixerState, register_state


@register_state
class StageState(NamedTuple):
    """What one stage outside the centre carries, with the pooling to the next stage and back.

    Attributes:
        down: One mixer state a block on the way down; empty without such blocks.
        window: The inputs of the pooling before the next position: all but one frame, oldest first.
        held: The last complete frame, spread over the positions of the frame after it.
        phase: How many positions of the unfinished frame have come.
        up: One mixer state a block on the way up.
    """

    down: tuple[MixerState, ...]
    window: Float[Tensor, "batch width dim"]
    held: Float[Tensor, "batch factor dim"]
    phase: int
    up: tuple[MixerState, ...]


class MultiScaleBackbone(nn.Module, HubModel):
    """SaShiMi's stack (Goel et al. 2022, arXiv:2202.09729, section 4.2) over any mixers, over features.

    Each stage pools its positions to frames, the next stage's positions, and adds what comes back from there
    before its blocks on the way up. A causal stack shifts what comes back by one frame, so position t sees
    positions up to t only; those of its own, unfinished frame it sees through the finer stage alone.

    It is called as a `Backbone` is and keeps its promises: any length, and a causal one gives the same
    numbers whole, in chunks of any length with the state carried between them, and one step at a time. A
    stage runs only when a frame is complete: most steps run the outermost stage alone, and after
    `step_period` steps the same stages run again. In a `BackboneState` of it ``layers`` has an entry for each
    stage: a `StageState`, and a `BackboneState` for the centre.

    Where ``reset`` is given, the packed sequences are moved apart so that the frames of each start with it,
    run, and are moved back: the numbers are those of separate runs. Their new length depends on the data, for
    which a GPU has to be waited for once, and which one graph of torch.compile cannot hold.

    Args:
        config: Sizes and options.
    """

    config_class = MultiScaleConfig
    takes_pieces = False  # frames would lie across the borders of ranks

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        self.config = config
        stages = [config.stage(index) for index in range(config.n_stages)]
        outside, centre = stages[:-1], stages[-1]
        self.down = nn.ModuleList(BlockStack(stage) for stage in outside if config.sides == "both")
        self.up = nn.ModuleList(BlockStack(stage) for stage in outside)
        self.centre = BlockStack(centre)
        self.down_pools, self.up_pools = nn.ModuleList(), nn.ModuleList()
        for fine, coarse, factor in zip(outside, stages[1:], config.pool, strict=True):
            self.down_pools.append(DownPool(fine.d_model, coarse.d_model, factor))
            self.up_pools.append(UpPool(coarse.d_model, fine.d_model, factor))
        self.norm_f = NORMS[config.outer.norm](config.d_model, config.outer.norm_eps)

    @property
    def step_period(self) -> int:
        """Steps after which the same stages run again."""
        return self.config.period

    @property
    def layers_in_order(self) -> list[nn.Module]:
        """Blocks and poolings in the order in which a position passes them: down, through the centre, up."""
        order: list[nn.Module] = []
        for stage, pool in enumerate(self.down_pools):
            order += [*(_stack(self.down, stage).layers if self.down else ()), pool]
        order += self.centre.layers
        for stage in reversed(range(len(self.up))):
            order += [self.up_pools[stage], *_stack(self.up, stage).layers]
        return order

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
        """Run all stages.

        Args:
            x: Features, any floating dtype; at least one position.
            reset: True where a new packed sequence starts; not together with a state.
            state: State after the previous chunk, causal only; ``None`` starts a sequence.
            return_state: Whether to return the state too.
            rate: Training sampling rate over the input's; see `Backbone.forward`. Frames keep their number of
                positions, so they get longer in time with it.

        Returns:
            Features in the parameters' dtype, and the new state if asked for.

        Raises:
            UserError: If a shape or dtype does not fit, or a state meets a bidirectional backbone or a reset.
        """
        self._check(x, reset, state, return_state)
        hidden = at_least_float32(x)
        if state is not None or return_state:
            old = self.init_state(len(x), x.device) if state is None else state
            hidden, new = self._stream(0, hidden, old.layers, rate)
            y = self.norm_f(hidden)
            return (y, BackboneState(new)) if return_state else y
        if reset is not None:
            alignment = align(reset, self.config.period)
            hidden = self._whole(0, alignment.spread(hidden), alignment.layout, rate)
            return self.norm_f(alignment.gather(hidden))
        return self.norm_f(self._fill(hidden, rate))

    def _fill(self, hidden: Tensor, rate: float) -> Tensor:
        """Run all stages over sequences of any length, filled up to whole frames of the centre."""
        length, period = hidden.shape[1], self.config.period
        aligned = (length + period - 1) // period * period
        layout = None
        if self.config.direction == "bidirectional" and length % period != 0:
            layout = lone_layout(hidden, aligned)  # a causal stack does not see what is behind
        return self._whole(0, F.pad(hidden, (0, 0, 0, aligned - length)), layout, rate)[:, :length]

    def _whole(self, stage: int, hidden: Tensor, layout: FrameLayout | None, rate: float) -> Tensor:
        """Run this and all coarser stages over whole frames of the centre."""
        options: dict[str, Any] = {"reset": None if layout is None else layout.reset, "rate": rate}
        if stage == len(self.up):
            return self.centre.run_blocks(hidden, **options)[0]
        if self.down:
            hidden, _ = _stack(self.down, stage).run_blocks(hidden, **options)
        frames, starts, coarse = hidden, None, None
        if layout is not None:  # what the blocks made of the padding must not enter the frames
            frames = hidden.masked_fill(~layout.valid[..., None], 0)
            coarse = layout.coarsen(self.config.pool[stage])
            starts = coarse.starts
        frames = self._whole(stage + 1, self.down_pools[stage](frames), coarse, rate)
        causal = self.config.direction == "causal"
        spread = self.up_pools[stage](frames, causal=causal, starts=starts)
        return _stack(self.up, stage).run_blocks(hidden + spread, **options)[0]

    def _stream(
        self, stage: int, hidden: Tensor, states: tuple[Any, ...], rate: float
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Run this and all coarser stages over the next chunk; ``states`` are those from this stage on."""
        options: dict[str, Any] = {"return_state": True, "rate": rate}
        if stage == len(self.up):
            hidden, centre = self.centre.run_blocks(hidden, states[0].layers, **options)
            return hidden, (BackboneState(centre),)
        (down, window, held, phase, up), coarser = cast(StageState, states[0]), states[1:]
        length = hidden.shape[1]
        if self.down:
            hidden, down = _stack(self.down, stage).run_blocks(hidden, down, **options)
        frames, window = cast(DownPool, self.down_pools[stage]).stream(hidden, window, phase)
        if frames is not None:
            frames, coarser = self._stream(stage + 1, frames, coarser, rate)
        spread, held = cast(UpPool, self.up_pools[stage]).stream(frames, length, held, phase)
        hidden, up = _stack(self.up, stage).run_blocks(hidden + spread, up, **options)
        phase = (phase + length) % self.config.pool[stage]
        return hidden, (StageState(down, window, held, phase, up), *coarser)

    def _check(
        self, x: Tensor, reset: Tensor | None, state: BackboneState | None, return_state: bool
    ) -> None:
        check_features(x, reset, self.config.d_model)
        if state is None and not return_state:
            return
        if self.config.direction != "causal":
            raise no_recurrent_state()
        if reset is not None:
            raise UserError(
                "reset: expected null where a state is given or asked for: the packed sequences of a "
                "multi-scale backbone end in different places of their frames",
                hint="run each sequence by itself, or all of them whole",
            )
        if state is not None:
            self._check_state(state, len(x))

    def _check_state(self, state: BackboneState, batch_size: int) -> None:
        first = state.layers[0] if len(state.layers) == self.config.n_stages else None
        if not isinstance(first, StageState):
            raise UserError(
                f"state: expected the {self.config.n_stages} stages of this backbone, "
                f"got {', '.join(type(layer).__name__ for layer in state.layers)}"
            )
        if len(first.window) != batch_size:
            raise UserError(f"state: expected a batch of {batch_size}, got {len(first.window)}")

    def init_state(self, batch_size: int, device: torch.device | str | None = None) -> BackboneState:
        """Return the state before the first position: zeros, float32.

        Args:
            batch_size: Sequences that run side by side.
            device: Where the state lives; the parameters' device by default.

        Raises:
            UserError: If the backbone is bidirectional.
        """
        stages = [
            StageState(
                _stack(self.down, stage).init_states(batch_size, device) if self.down else (),
                cast(DownPool, self.down_pools[stage]).init_window(batch_size, device),
                cast(UpPool, self.up_pools[stage]).init_held(batch_size, device),
                0,
                _stack(self.up, stage).init_states(batch_size, device),
            )
            for stage in range(len(self.up))
        ]
        return BackboneState((*stages, BackboneState(self.centre.init_states(batch_size, device))))


def _stack(stacks: nn.ModuleList, stage: int) -> BlockStack:
    return cast(BlockStack, stacks[stage])
