"""Properties that a trained model must have, measured: what ``seqmamba check`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from seqmamba.errors import UserError
from seqmamba.inference.model import step_period
from seqmamba.inference.modes import compare_modes, run_whole
from seqmamba.inference.stream import Stream
from seqmamba.nn.packing import reset_from_lengths
from seqmamba.nn.state import describe_state

Outcome = Literal["pass", "fail", "skip"]
DEFAULT_LENGTH = 2048
"""Training length that is assumed where the model does not know its own, in positions."""
_BATCH = 2
_MODES_LENGTH = 256  # stepping costs a call a position
_PIECE = 16_384  # positions fed at once, and where the other run of the drift check cuts them
_CUT = 5_003
_MODES_LIMIT = 1e-4
_CAUSALITY_LIMIT = 1e-5  # a convolution by FFT spreads rounding errors over all positions
_SYMMETRY_LIMIT = 1e-4
_GROWTH_LIMIT = 2.0


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        outcome: ``skip`` where it does not apply to the model.
        measured: The number that was found; None where there is none.
        limit: The largest number that passes.
        detail: What was measured, or why it does not apply.
    """

    name: str
    outcome: Outcome
    detail: str
    measured: float | None = None
    limit: float | None = None

    @classmethod
    def of(cls, name: str, measured: float, limit: float, detail: str) -> Check:
        """Judge a number; NaN fails."""
        return cls(name, "pass" if measured <= limit else "fail", detail, measured, limit)


@dataclass(frozen=True)
class Subject:
    """The model under examination, with what the checks need to know of it.

    Attributes:
        model: In evaluation mode. ``model.example_input(batch, length, generator)`` gives random valid input.
        device: Where it runs.
        length: Positions of the longest sequence it was trained on.
        steps: Positions of the drift check.
        seed: Of all inputs.
    """

    model: Any
    device: torch.device
    length: int
    steps: int
    seed: int = 0

    @property
    def backbone(self) -> Any:
        """The part that maps (batch, length, channels) to the same shape: the model or its ``backbone``."""
        return getattr(self.model, "backbone", self.model)

    @property
    def streams(self) -> Any | None:
        """What can be run with a carried state: the model, else its backbone, else None."""
        if getattr(self.backbone.config, "direction", None) != "causal":
            return None
        return self.model if hasattr(self.model, "init_state") else self.backbone

    def inputs(self, module: Any, batch: int, length: int, seed: int = 0) -> Tensor:
        """Random input of a module, the same on every device."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + seed)
        return module.example_input(batch, length, generator).to(self.device)


@torch.no_grad()
def check_model(
    model: nn.Module, *, length: int | None = None, steps: int = 1_000_000, seed: int = 0
) -> Iterator[Check]:
    """Examine a model, a check at a time.

    Args:
        model: Anything that `seqmamba.from_pretrained` returns; it is put into evaluation mode.
        length: Positions of its training sequences; None takes ``model.config.max_length`` or 2,048.
        steps: Positions over which the state is watched.
        seed: Of all random inputs.

    Yields:
        The findings.

    Raises:
        UserError: If a number is out of range, or the model cannot be examined.
    """
    for name, value in (("length", length), ("steps", steps)):
        if value is not None and value < 1:
            raise UserError(f"{name}: expected at least 1 position, got {value}")
    if not hasattr(model, "example_input"):
        raise UserError(f"a {type(model).__name__} cannot be checked: it has no example_input")
    trained = length or getattr(model.config, "max_length", None) or DEFAULT_LENGTH
    device = next(model.parameters()).device
    subject = Subject(model.eval(), device, trained, steps, seed)
    for check in (_modes, _causality, _padding, _finite, _symmetry, _drift):
        yield from check(subject)


def _modes(subject: Subject) -> Iterator[Check]:
    module = subject.streams
    if module is None:
        for name in ("chunks = whole", "steps = whole"):
            yield Check(name, "skip", "a bidirectional model needs the whole sequence")
        return
    x = subject.inputs(module, _BATCH, min(_MODES_LENGTH, max(subject.length, 2)))
    report = compare_modes(module, x)
    limit = _MODES_LIMIT * max(report.scale, 1.0)
    detail = f"largest difference over {x.shape[1]} positions, outputs up to {report.scale:.3g}"
    yield Check.of("chunks = whole", report.chunked, limit, detail)
    yield Check.of("steps = whole", report.stepwise, limit, detail)


def _causality(subject: Subject) -> Iterator[Check]:
    name, module = "causality", subject.streams
    if module is None:
        yield Check(name, "skip", "a bidirectional model sees both sides")
        return
    length = max(min(subject.length, DEFAULT_LENGTH), 2)
    cut = length - length // 3 - 1
    x, other = (subject.inputs(module, 1, length, seed) for seed in (1, 2))
    changed = torch.cat((x[:, :cut], other[:, cut:]), dim=1)
    y = run_whole(module, x)
    worst = (run_whole(module, changed) - y)[:, :cut].abs().max().item()
    detail = f"change of the outputs before position {cut} when everything from there on changes"
    yield Check.of(name, worst, _CAUSALITY_LIMIT * max(y.abs().max().item(), 1.0), detail)


def _padding(subject: Subject) -> Iterator[Check]:
    """Right padding must not matter, in either direction."""
    backbone = subject.backbone
    length = max(min(subject.length, DEFAULT_LENGTH), 3)
    short = length - length // 3
    x = subject.inputs(backbone, 1, length, 3)
    alone = run_whole(backbone, x[:, :short])
    reset = reset_from_lengths(torch.tensor([short], device=subject.device), length)
    padded = backbone(x, reset=reset)[:, :short]
    limit = _MODES_LIMIT * max(alone.abs().max().item(), 1.0)
    detail = f"difference between {short} positions padded to {length} and the same alone"
    yield Check.of("padding", (padded - alone).abs().max().item(), limit, detail)


def _finite(subject: Subject) -> Iterator[Check]:
    length = 10 * subject.length
    precisions: dict[str, AbstractContextManager[Any]] = {
        "float32": nullcontext(),
        "bfloat16 autocast": torch.autocast(subject.device.type, torch.bfloat16),
    }
    for name, precision in precisions.items():
        with precision:
            bad = _not_finite(subject, length)
        detail = f"values that are not finite over {length:,} positions, 10 times the training length"
        yield Check.of(f"finite, {name}", float(bad), 0.0, detail)


def _not_finite(subject: Subject, length: int) -> int:
    """Count outputs that are not finite, in pieces where a state can be carried."""
    module = subject.streams
    if module is None:
        return _count_not_finite(subject.model(subject.inputs(subject.model, 1, length, 4)))
    stream = Stream(module)
    pieces = _piece_lengths(length)
    return sum(
        _count_not_finite(stream.feed(subject.inputs(module, 1, size, 5 + i)))
        for i, size in enumerate(pieces)
    )


def _count_not_finite(y: Any) -> int:
    return sum(int((~t.isfinite()).sum()) for t in _pytree.tree_leaves(y) if isinstance(t, Tensor))


def _symmetry(subject: Subject) -> Iterator[Check]:
    name = "reverse complement"
    measure: Callable[..., float | None] | None = getattr(subject.model, "symmetry_error", None)
    length = min(subject.length, DEFAULT_LENGTH)
    error = None if measure is None else measure(_BATCH, length, subject.seed)
    if error is None:
        yield Check(name, "skip", "the model reads no DNA, or is not meant to read both strands alike")
        return
    detail = f"largest difference between the two strands' results, {length} bases"
    yield Check.of(name, error, _SYMMETRY_LIMIT, detail)


def _drift(subject: Subject) -> Iterator[Check]:
    """Two runs over the same long input, cut differently, must end in the same, not ever-growing state."""
    module, names = subject.streams, ("state growth", "state drift")
    if module is None:
        for name in names:
            yield Check(name, "skip", "a bidirectional model has no recurrent state")
        return
    whole, cut = Stream(module), Stream(module)
    if not _keeps_its_form(subject, module):
        for name in names:
            yield Check(name, "skip", "the state holds every position: attention without a window")
        return
    sizes: list[float] = []
    for i, size in enumerate(_piece_lengths(subject.steps)):
        x = subject.inputs(module, 1, size, 1000 + i)
        whole.feed(x)
        for part in x.split(_CUT, dim=1):
            cut.feed(part)
        sizes.append(_largest(t.abs().max().item() for t in _tensors(whole.state)))
    quarter = max(len(sizes) // 4, 1)
    growth = _largest(sizes[-quarter:]) / _largest([*sizes[:quarter], 1e-30])
    yield Check.of(
        names[0], growth, _GROWTH_LIMIT, f"largest state late over early, {subject.steps:,} positions"
    )
    worst = _largest(
        ((a - b).abs().max() / a.abs().max().clamp(min=1.0)).item()
        for a, b in zip(_tensors(whole.state), _tensors(cut.state), strict=True)
    )
    detail = (
        f"difference of the states after {subject.steps:,} positions in pieces of {_PIECE:,} and {_CUT:,}"
    )
    yield Check.of(names[1], worst, _MODES_LIMIT, detail)


def _keeps_its_form(subject: Subject, module: Any) -> bool:
    stream = Stream(module)
    before = describe_state(stream.state)
    stream.feed(subject.inputs(module, 1, step_period(module), 999))
    return describe_state(stream.state) == before


def _tensors(state: Any) -> list[Tensor]:
    """The values of a state: no positions and masks, nothing empty."""
    leaves = (leaf for leaf in _pytree.tree_leaves(state) if isinstance(leaf, Tensor) and leaf.numel())
    return [leaf for leaf in leaves if leaf.is_floating_point() or leaf.is_complex()]


def _largest(numbers: Iterable[float]) -> float:
    """The largest number, or NaN if there is one, which `max` overlooks behind another."""
    return torch.tensor([*numbers], dtype=torch.float64).max().item()


def _piece_lengths(length: int) -> list[int]:
    full, rest = divmod(length, _PIECE)
    return [_PIECE] * full + ([rest] if rest else [])
