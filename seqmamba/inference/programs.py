"""A model as a fixed program, by torch.export: of sequences of one length, or of one step and its state.

A program is made of PyTorch's own operators, so that neither loading nor running it needs this package. It
holds the weights, and runs on the kind of device that it was made on.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree

from seqmamba.atomic import atomic_path
from seqmamba.backbones.quantised import int8_layers
from seqmamba.errors import UserError
from seqmamba.inference.model import CausalModel, step_period
from seqmamba.ops.dispatch import only_pytorch

_STEPS = 5  # that are compared


@dataclass(frozen=True)
class Program:
    """A model as a program.

    Attributes:
        exported: The program.
        module: What it was made of: the model, called as the program is.
        inputs: An input that it takes: of a step, also the state before the first.
        answers: What the model itself makes of this input: of a step, also the state behind it.
        difference: Largest difference between what the program and the model answer to other inputs, relative
            to the largest answer.
    """

    exported: ExportedProgram
    module: nn.Module
    inputs: tuple[Tensor, ...]
    answers: tuple[Tensor, ...]
    difference: float


class Answering(nn.Module):
    """A model as its program calls it: probabilities or values where it predicts, else its outputs.

    Args:
        model: Any model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Answer for a batch of whole sequences."""
        answers: Tensor = getattr(self.model, "predict", self.model)(x)
        return answers


class Stepping(nn.Module):
    """The next positions of a causal model, whose state is given and returned as a flat list of tensors.

    Args:
        model: The model.
    """

    def __init__(self, model: CausalModel) -> None:
        super().__init__()
        self.model = cast(nn.Module, model)
        self._leaves, self._form = _pytree.tree_flatten(model.init_state(1))

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs at the next positions and the state after them."""
        given = iter(state)  # what is no tensor says what kind of state it is
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self._leaves]
        y, after = self.model(x, state=_pytree.tree_unflatten(leaves, self._form), return_state=True)
        return (y, *_tensors(after))


@torch.no_grad()
def sequence_program(model: Any, length: int, batch: int = 1) -> Program:
    """Export what a model answers to whole sequences, and compare.

    Args:
        model: Anything that `seqmamba.from_pretrained` returns; it is put into evaluation mode.
        length: Positions of the input.
        batch: Sequences at once.

    Raises:
        UserError: If a number is out of range, or the model cannot be exported.
    """
    _require_positive(length=length, batch=batch)
    wrapped = Answering(model.eval())
    first, second = (_input(model, batch, length, seed) for seed in (0, 1))
    exported = _export(wrapped, (first,))
    difference = largest_difference(exported.module()(second), wrapped(second))
    return Program(exported, wrapped, (first,), (wrapped(first),), difference)


@torch.no_grad()
def step_program(model: Any, batch: int = 1, length: int = 1) -> Program:
    """Export one step of a causal model, and compare several.

    Args:
        model: A causal backbone or language model; it is put into evaluation mode.
        batch: Sequences side by side.
        length: Positions of a step; for a multi-scale stack a multiple of its `step_period`.

    Raises:
        UserError: If a number is out of range, the model carries no state, or its steps are not all alike.
    """
    _require_positive(batch=batch, length=length)
    if not isinstance(model, CausalModel) or not isinstance(model, nn.Module):
        raise UserError(f"expected a causal model, got a {type(model).__name__}, which carries no state")
    start = _tensors(model.init_state(batch))
    period = step_period(model)
    if length % period:
        raise UserError(
            f"--length: expected a multiple of {period}, after which steps are alike, got {length}"
        )
    wrapped = Stepping(model.eval())
    x = _input(model, batch, _STEPS * length, 0)
    first = (x[:, :length], *start)
    answers = wrapped(*first)
    if [tensor.shape for tensor in answers[1:]] != [tensor.shape for tensor in start]:
        raise UserError("expected a model whose state keeps its size, got one whose state grows (attention)")
    exported = _export(wrapped, first)
    step, before, worst = exported.module(), start, 0.0
    for piece, expected in zip(x.split(length, dim=1), model(x).split(length, dim=1), strict=True):
        y, *before = step(piece, *before)
        worst = max(worst, largest_difference(y, expected))
    return Program(exported, wrapped, first, answers, worst)


def save_program(program: Program, path: Path) -> None:
    """Write a program for `torch.export.load`, whole or not at all.

    Args:
        program: What to write.
        path: The file, usually ``.pt2``.
    """
    with atomic_path(path) as part, part.open("wb") as file:
        torch.export.save(program.exported, file)


def _tensors(state: Any) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(state) if isinstance(leaf, Tensor)]


def _input(model: Any, batch: int, length: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x: Tensor = model.example_input(batch, length, generator)
    return x.to(next(model.parameters()).device)


def _export(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    if int8_layers(module):
        raise UserError(
            "expected a model with ordinary weights, got int8 ones", hint="name the run they are of"
        )
    try:
        with only_pytorch(), warnings.catch_warnings():
            # an LSTM lays its weights out anew when it is called
            warnings.filterwarnings(
                "ignore", message=r"The tensor attributes? .*were? assigned during export"
            )
            return torch.export.export(module, inputs, strict=False)
    except (RuntimeError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the model cannot be exported: {reason}") from error


def largest_difference(got: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two tensors relative to the largest number of the second."""
    scale = expected.abs().max().clamp_min(1e-12)
    return ((got - expected).abs().max() / scale).item()


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UserError(f"--{name}: expected a positive number, got {value}")
