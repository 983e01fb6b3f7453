"""One step of a language model, from a token to logits, as a program of one kernel.

Run operator by operator, a step of a small model spends its time between kernels: some hundred of them, each
of a microsecond or two. Here one kernel takes the whole step, `seqmamba.ops.token_step`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqmamba.backbones.isotropic import BlockStack
from seqmamba.backbones.language_model import LanguageModel
from seqmamba.backbones.multiscale import MultiScaleBackbone, StageState
from seqmamba.backbones.quantised import is_quantised
from seqmamba.backbones.state import BackboneState
from seqmamba.nn.block import Block
from seqmamba.nn.mamba import Mamba
from seqmamba.nn.mlp import GatedMLP
from seqmamba.nn.norm import LayerNorm, RMSNorm
from seqmamba.nn.resampling import DownPool, UpPool
from seqmamba.nn.s4 import S4
from seqmamba.nn.state import MambaState, S4State
from seqmamba.ops.token_step.instructions import WIDEST_CONVOLUTION, Finish, Norm, Vector
from seqmamba.ops.token_step.program import Program

MOST_MATRIX_BYTES = 40 * 2**20
"""Larger models spend their steps reading weights, which a few blocks do not do as fast as all of a GPU."""

MOST_WORK = {torch.float32: 6e9, torch.bfloat16: 3e7}
"""Weights times sequences of a step, beyond which operators on a whole GPU are faster.

On an H100 that is from about 10 sequences on for a Mamba of 8 x 256 in bfloat16, whose operators use matrix
units, and not at 1,024 for a stack like SaShiMi's in float32.
"""


def program_obstacle(model: nn.Module) -> str | None:
    """Say why the steps of a model are no program, or None if they are one.

    Args:
        model: Any model.
    """
    if type(model) is not LanguageModel or model.lm_head is None:
        return "it is no language model"
    if model.backbone.config.direction != "causal":
        return "it is not causal"
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    if any(map(is_quantised, matrices)):
        return "its matrices are quantised"
    if {x.dtype for x in matrices} not in ({torch.float32}, {torch.bfloat16}):
        return "its matrices are neither all float32 nor all bfloat16"
    if sum(x.numel() * x.element_size() for x in matrices) > MOST_MATRIX_BYTES:
        return f"its matrices have more than {MOST_MATRIX_BYTES >> 20} MiB"
    # the step size's own projection is read number by number, the others four at a time
    linears = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and "dt_proj" not in name]
    if any(linear.in_features % 4 for linear in linears):
        return "one of its widths is no multiple of 4"
    return next(filter(None, map(_block_obstacle, _blocks(model.backbone))), None)


def worthwhile(model: LanguageModel, batch: int) -> bool:
    """Tell whether one kernel is faster than an operator after the other.

    Args:
        model: One without an obstacle.
        batch: Sequences side by side.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    return weights * batch <= MOST_WORK[model.embedding.weight.dtype]


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    return [layer for stack in backbone.modules() if isinstance(stack, BlockStack) for layer in stack.layers]


def _block_obstacle(layer: nn.Module) -> str | None:
    if not isinstance(layer, Block):
        return f"it has a {type(layer).__name__}"
    mixer = layer.mixer
    if isinstance(mixer, S4):
        if mixer.P is not None:
            return "the transition of its s4 is no diagonal"
    elif isinstance(mixer, Mamba):
        if mixer.A_imag is not None or mixer.bc_norm != "none" or mixer.dt_limit is not None:
            return "its mamba has a complex state, norms or bounds"
        if mixer.conv1d.kernel_size[0] > WIDEST_CONVOLUTION:
            return f"its convolution is wider than {WIDEST_CONVOLUTION}"
        if mixer.impl != "auto":
            return f"its mamba is to run by {mixer.impl}"
    else:
        return f"it has the mixer {type(mixer).__name__}"
    if layer.mlp is not None and not isinstance(layer.mlp, GatedMLP):
        return f"it has a {type(layer.mlp).__name__}"
    if getattr(layer.norm, "groups", 1) != 1:
        return "its norms have groups"
    return None


def write_program(
    model: LanguageModel, state: BackboneState, steps: int = 1
) -> tuple[Program, list[BackboneState]]:
    """Write the program that takes steps of a model, with an instruction to draw behind each.

    Args:
        model: One without an obstacle.
        state: Its state before the steps, contiguous; the program changes its tensors.
        steps: How many before it begins again; then the state must have come round.

    Returns:
        The program, and the state before each step and behind the last: the same tensors with other whole
        numbers.
    """
    writer = _Writer(Program(cast(nn.Linear, model.lm_head).weight.dtype))
    states = [state]
    for _ in range(steps):
        states.append(BackboneState(writer.step(model, states[-1].layers)))
    return writer.program, states


class _Writer:
    """Writes the parts of a model into a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._vectors: dict[tuple[Any, int], Vector] = {}
        self._written: defaultdict[Any, list[int]] = defaultdict(list)

    def vector(self, role: Any, length: int) -> Vector:
        """Return the vector of a role; blocks of one width share theirs."""
        if (role, length) not in self._vectors:
            self._vectors[role, length] = self.program.vector(length)
        return self._vectors[role, length]

    def step(self, model: LanguageModel, states: tuple[Any, ...]) -> tuple[Any, ...]:
        """Write a step from token to token, or logits; returns the states behind it."""
        self.program.begin_step()
        backbone = model.backbone
        hidden = self.vector("hidden", backbone.config.d_model)
        self._once("embed", lambda: self.program.embed(_plain(model.embedding.weight), hidden))
        if isinstance(backbone, MultiScaleBackbone):
            states = self.stage(backbone, 0, hidden, states)
        else:
            self.stack(cast(BlockStack, backbone), hidden, states)
        self._once("head", lambda: self._head(model, hidden))
        return states

    def _head(self, model: LanguageModel, hidden: Vector) -> None:
        head, vocabulary = cast(nn.Linear, model.lm_head), model.config.vocab_size
        bias = None if head.bias is None else _single(head.bias[:vocabulary])
        logits = self.vector("logits", vocabulary)
        norm = _norm(cast(nn.Module, model.backbone.norm_f))
        self.program.product(_plain(head.weight)[:vocabulary], bias, hidden, logits, norm=norm)
        self.program.draw(logits)

    def stage(
        self, model: MultiScaleBackbone, index: int, hidden: Vector, states: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Write what `MultiScaleBackbone` does for one position from this stage on; see its ``_stream``."""
        if index == len(model.up):
            self.stack(model.centre, hidden, states[0].layers)
            return states
        state, coarser = cast(StageState, states[0]), states[1:]
        down, up = cast(DownPool, model.down_pools[index]), cast(UpPool, model.up_pools[index])
        if model.down:
            self.stack(cast(BlockStack, model.down[index]), hidden, state.down)
        frame = self.vector(("frame", index), down.linear.in_features)
        held = self.vector(("held", index), up.linear.out_features)
        if ("hold", index) not in self._written:
            self._written["hold", index] = [0]
            self.program.hold(state.window, frame, offset=hidden.length)
            self.program.hold(state.held, held)
        self._once(("push", index), lambda: self.program.push(hidden, frame))
        # what comes back of the frame before; only then may the one that is now complete take its place
        phase = state.phase
        self._once(("held", index, phase), lambda: self.program.add_held(held, phase, hidden))
        phase = (phase + 1) % down.factor
        if phase == 0:
            coarse = self.vector(("coarse", index), down.linear.out_features)
            self._once(down, lambda: self._linear(down.linear, frame, coarse))
            coarser = self.stage(model, index + 1, coarse, coarser)
            self._once(up, lambda: self._linear(up.linear, coarse, held))
        self.stack(cast(BlockStack, model.up[index]), hidden, state.up)
        return (state._replace(phase=phase), *coarser)

    def stack(self, stack: BlockStack, hidden: Vector, states: tuple[Any, ...]) -> None:
        """Write blocks on a residual stream."""
        for layer, state in zip(stack.layers, states, strict=True):
            self._once(layer, partial(self._block, cast(Block, layer), hidden, state))

    def _once(self, part: Any, write: Callable[[], None]) -> None:
        """Write a part of the model, or name its instructions again that an earlier step has."""
        self.program.once(self._written[part], write)

    def _block(self, block: Block, hidden: Vector, state: Any) -> None:
        if isinstance(block.mixer, S4):
            self._s4(block.mixer, _norm(block.norm), hidden, state)
        else:
            self._mamba(cast(Mamba, block.mixer), _norm(block.norm), hidden, state)
        if block.mlp is not None and block.norm2 is not None:
            mlp = cast(GatedMLP, block.mlp)
            inner = self.vector("inner", mlp.fc2.in_features)
            self._linear(mlp.fc1, hidden, inner, norm=_norm(block.norm2), finish=Finish.SILU_GATE)
            self._linear(mlp.fc2, inner, hidden, finish=Finish.ADD)

    def _s4(self, mixer: S4, norm: Norm, hidden: Vector, state: S4State) -> None:
        system, readout = mixer.recurrence(1.0)
        y = self.vector("y", hidden.length)
        self.program.lti_step(
            _plain(system.transition),
            _plain(system.drive),
            _plain(readout),
            _single(mixer.D),
            state.hidden,
            hidden,
            y,
            norm,
        )
        self._linear(mixer.out_proj, y, hidden, finish=Finish.GATE_ADD)

    def _mamba(self, mixer: Mamba, norm: Norm, hidden: Vector, state: MambaState) -> None:
        dim = len(mixer.D)
        u, z, y = (self.vector(role, dim) for role in ("u", "z", "y"))
        selection = self.vector("selection", mixer.x_proj.out_features)
        self.program.convolved_product(
            _plain(mixer.in_proj.weight),
            _optional(mixer.in_proj.bias),
            hidden,
            u,
            z,
            norm=norm,
            weight=_single(mixer.conv1d.weight.squeeze(1)),
            weight_bias=_optional(mixer.conv1d.bias),
            state=state.conv,
        )
        self._linear(mixer.x_proj, u, selection)
        self.program.scan_step(
            _single(mixer.A_log),
            _single(mixer.D),
            _plain(mixer.dt_proj.weight),
            _single(cast(Tensor, mixer.dt_proj.bias)),
            state.scan,
            u,
            selection,
            z,
            y,
        )
        self._linear(mixer.out_proj, y, hidden, finish=Finish.ADD)

    def _linear(self, layer: nn.Linear, source: Vector, target: Vector, **options: Any) -> None:
        self.program.product(_plain(layer.weight), _optional(layer.bias), source, target, **options)


def _norm(layer: nn.Module) -> Norm:
    norm = cast(RMSNorm | LayerNorm, layer)
    bias = norm.bias if isinstance(norm, LayerNorm) else None
    return Norm(_single(norm.weight), _optional(bias), norm.eps)


def _plain(x: Tensor) -> Tensor:
    """A tensor as it lies in memory, without gradients and without a pending conjugation."""
    return x.detach().resolve_conj().contiguous()


def _single(x: Tensor) -> Tensor:
    return _plain(x).float()


def _optional(x: Tensor | None) -> Tensor | None:
    return None if x is None else _single(x)
