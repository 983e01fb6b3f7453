"""Steps of a language model as single kernels, where its weights and its GPU allow it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree

from seqmamba.backbones import BackboneState, LanguageModel
from seqmamba.backbones.token_program import program_obstacle, worthwhile, write_program
from seqmamba.inference.graphs import overwrite
from seqmamba.inference.model import TokenModel, step_period
from seqmamba.inference.stopping import StopRule
from seqmamba.nn.state import describe_state, map_state
from seqmamba.ops.dispatch import cuda_obstacle
from seqmamba.ops.draw import Draws
from seqmamba.ops.in_place import may_overwrite
from seqmamba.ops.token_step.cuda import Drawing, LoadedProgram, fits

if TYPE_CHECKING:
    from seqmamba.inference.decoding import Generation


def fusion_obstacle(model: TokenModel, batch: int) -> str | None:
    """Say why the steps of a model are not single kernels, or None if they are.

    Args:
        model: Any model.
        batch: Sequences side by side.
    """
    obstacle = program_obstacle(cast(torch.nn.Module, model)) or cuda_obstacle(next(model.parameters()))
    if obstacle is None and not worthwhile(cast(LanguageModel, model), batch):
        return f"operators on the whole GPU are faster for {batch} sequences"
    return obstacle


class FusedSteps:
    """Takes steps of a model by `seqmamba.ops.token_step`, over its state.

    A program is written for every form and place of the state that comes up, and kept: a CUDA graph of the
    steps runs those that were written before its capture.

    Args:
        model: One without an obstacle, whose weights stay where and as they are.
    """

    def __init__(self, model: TokenModel) -> None:
        self._model = cast(LanguageModel, model)
        self._programs: dict[Any, tuple[LoadedProgram, BackboneState] | None] = {}

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any] | None:
        """Take a step, if the state may be written over and a multiprocessor holds all vectors.

        Args:
            tokens: int64 (batch,).
            state: Of the model; see `updating_states_in_place`.

        Returns:
            Logits, float32 (batch, vocabulary), and the state after the step; or None if nothing was done.
        """
        tensors = [leaf for leaf in _pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
        if not all(map(may_overwrite, tensors)) or torch.is_autocast_enabled("cuda"):
            return None
        key = (tuple(tensor.data_ptr() for tensor in tensors), str(describe_state(state)))
        if key not in self._programs:
            if tokens.is_cuda and torch.cuda.is_current_stream_capturing():
                return None  # a program has to be copied to the GPU, which no graph can hold
            self._programs[key] = self._write(state, len(tokens), tokens.device)
        found = self._programs[key]
        if found is None:
            return None
        program, new_state = found
        logits = tokens.new_empty(len(tokens), self._model.config.vocab_size, dtype=torch.float32)
        program.step(tokens.contiguous(), logits)
        return logits, new_state

    def _write(
        self, state: BackboneState, batch: int, device: torch.device
    ) -> tuple[LoadedProgram, BackboneState] | None:
        program, states = write_program(self._model, state)
        return (LoadedProgram(program, batch, device), states[-1]) if fits(program, batch) else None


class _StateMemory:
    """The tensors of a model's state side by side in one piece of memory, so that one copy copies them all.

    Args:
        state: It is copied; tensors float32 and complex64.
    """

    def __init__(self, state: BackboneState) -> None:
        tensors = [leaf for leaf in _pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
        self._shapes = [(x.shape, x.is_complex()) for x in tensors]
        real, imaginary = ([x.numel() for x in tensors if x.is_complex() == kind] for kind in (False, True))
        self._real, self._complex = real, imaginary
        self._split = sum(real) + sum(real) % 2  # a complex number lies at a multiple of its size
        self._memory = tensors[0].new_empty(self._split + 2 * sum(imaginary), dtype=torch.float32)
        for own, x in zip(self._views(self._memory), tensors, strict=True):
            own.copy_(x)

    def fill(self, leaves: list[Any], form: _pytree.TreeSpec, copy: bool = False) -> BackboneState:
        """Return a state with some whole numbers and these tensors.

        Args:
            leaves: Of a state of the same form; tensors only say where one stands.
            form: That state's.
            copy: Whether to copy the tensors.
        """
        views = self._views(self._memory.clone() if copy else self._memory)
        return _pytree.tree_unflatten([next(views) if isinstance(x, Tensor) else x for x in leaves], form)

    def _views(self, memory: Tensor) -> Iterator[Tensor]:
        real = iter(memory[: sum(self._real)].split(self._real))
        pairs = iter(memory[self._split :].view(torch.complex64).split(self._complex))
        return (next(pairs if is_complex else real).view(shape) for shape, is_complex in self._shapes)


class FusedDraws:
    """Draws tokens, any number of them in one kernel, over a state of its own.

    Args:
        model: One without an obstacle, whose weights stay where and as they are.
        start: The state to start from. It is not changed.
        temperature: See `seqmamba.ops.draw`.
        stop: Where rows end.
    """

    def __init__(self, model: TokenModel, start: Generation, temperature: float, stop: StopRule) -> None:
        self._memory = _StateMemory(start.model)
        own = start._replace(model=None)
        own_model = self._memory.fill(*_pytree.tree_flatten(start.model))
        self._state = map_state(torch.clone, own)._replace(model=own_model)
        device = start.tokens.device
        period = step_period(model)
        program, states = write_program(cast(LanguageModel, model), self._state.model, period)
        self._states = states[:period]
        self._forms = [_pytree.tree_flatten(state) for state in self._states]
        self._phase = 0
        batch = len(start.tokens)
        self.fits = fits(program, batch)
        self._program = LoadedProgram(program, batch, device) if self.fits else None
        self._drawing = Drawing(
            torch.tensor([temperature], dtype=torch.float64, device=device),
            torch.tensor(stop.tokens, dtype=torch.int64, device=device),
            stop.pad,
        )

    @property
    def state(self) -> Generation:
        """The state now, valid until the next call; see `copy`."""
        return self._state

    def copy(self) -> Generation:
        """Return the state now in memory of its own."""
        rest = map_state(torch.clone, self._state._replace(model=None))
        return rest._replace(model=self._memory.fill(*self._forms[self._phase], copy=True))

    def load(self, state: Generation) -> None:
        """Go on from another state of the same model and batch.

        Args:
            state: It is not changed.
        """
        overwrite(self._state, state)
        forms = [describe_state(own) for own in self._states]
        self._go_to(forms.index(describe_state(state.model)))

    def __call__(self, numbers: Tensor) -> Draws:
        """Draw.

        Args:
            numbers: In [0, 1), float64 (batch, steps); those of a row side by side.

        Returns:
            (batch, steps).
        """
        out = Draws.empty(*numbers.shape, device=numbers.device)
        cast(LoadedProgram, self._program).draw(
            self._state.tokens, self._state.done, numbers, self._drawing, out, self._phase
        )
        self._go_to((self._phase + numbers.shape[1]) % len(self._states))
        self._state.positions.add_(numbers.shape[1])
        return out

    def _go_to(self, phase: int) -> None:
        self._phase = phase
        self._state = self._state._replace(model=self._states[phase])
