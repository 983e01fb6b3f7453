"""How long a candidate takes and how much memory it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from seqmamba.benchmarks.candidates import Candidate
from seqmamba.benchmarks.inputs import Arguments

PHASES = ("inference", "forward", "backward", "sum")
"""Forward without gradients; forward that saves for a backward; that backward; the last two together."""

_FEWEST, _MOST = 3, 50
_LARGEST_COPIES = 16


@dataclass(frozen=True)
class Spread:
    """Milliseconds of repeated runs."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle sample."""
        return median(self.samples)

    @property
    def best(self) -> float:
        """The shortest sample."""
        return min(self.samples)

    @property
    def worst(self) -> float:
        """The longest sample."""
        return max(self.samples)


@dataclass(frozen=True)
class Memory:
    """Bytes beyond inputs, result and gradients.

    Attributes:
        saved: What the forward keeps for the backward, inputs and result aside.
        peak: The most that forward and backward together take, temporaries included; None where no allocator
            counts.
    """

    saved: int
    peak: int | None


class Clock:
    """Marks points in time on a device: CUDA events there, else the process's clock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mark(self) -> Any:
        """A point in the stream of work."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self) -> None:
        """Wait until everything asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def milliseconds(self, start: Any, end: Any) -> float:
        """Between two marks, after `wait`."""
        if self.device.type == "cuda":
            return float(start.elapsed_time(end))
        return float(1e3 * (end - start))


def size_of(tensors: Sequence[Tensor]) -> int:
    """Bytes of tensors."""
    return sum(x.numel() * x.element_size() for x in tensors)


def cold_copies(arguments: Arguments, grad_y: Tensor) -> int:
    """How many sets of inputs to take turns with, so that none is still in the GPU's second-level cache."""
    if grad_y.device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(grad_y.device).L2_cache_size
    size = size_of([*arguments.values(), grad_y])
    return min(_LARGEST_COPIES, 1 + 2 * cache // max(1, size))


def differentiable(candidate: Candidate, arguments: Arguments) -> Arguments:
    """Leaves in the candidate's layout."""
    return {name: x.detach().requires_grad_() for name, x in candidate.native(arguments).items()}


def timed_pass(
    candidate: Candidate, leaves: Arguments, grad: Tensor
) -> tuple[Tensor, Sequence[Tensor], dict[str, Spread]]:
    """Run forward and backward once, and wait: y, the gradients and their times."""
    clock = Clock(grad.device)
    clock.wait()
    start = clock.mark()
    y = candidate.call(leaves)
    middle = clock.mark()
    grads = torch.autograd.grad(y, list(leaves.values()), grad)
    end = clock.mark()
    clock.wait()
    return y, grads, _training_times(clock, [(start, middle, end)])


def time_candidate(
    candidate: Candidate, arguments: Arguments, grad_y: Tensor, budget: float
) -> dict[str, Spread]:
    """Time a candidate; its layout is made before the clock starts.

    Args:
        candidate: What to run.
        arguments: In the layout of `seqmamba.ops`.
        grad_y: Gradient of the result.
        budget: Seconds for the repeats of forward and backward; at least three are made.

    Returns:
        A spread for each of `PHASES`.
    """
    clock = Clock(grad_y.device)
    sets: list[tuple[Arguments, Tensor]] = []
    for copy in range(cold_copies(arguments, grad_y)):
        native = candidate.native(arguments)
        leaves = {name: (x.clone() if copy else x).detach().requires_grad_() for name, x in native.items()}
        sets.append((leaves, candidate.native_tensor(grad_y)))

    def train(index: int) -> tuple[Any, Any, Any]:
        leaves, grad = sets[index % len(sets)]
        start = clock.mark()
        y = candidate.call(leaves)
        middle = clock.mark()
        torch.autograd.grad(y, list(leaves.values()), grad)
        return start, middle, clock.mark()

    def infer(index: int) -> tuple[Any, Any]:
        with torch.no_grad():
            start = clock.mark()
            candidate.call(sets[index % len(sets)][0])
            return start, clock.mark()

    training = _repeat(train, clock, budget)
    inference = _repeat(infer, clock, budget / 4)
    return {
        "inference": Spread(tuple(clock.milliseconds(*marks) for marks in inference)),
        **_training_times(clock, training),
    }


def _training_times(clock: Clock, marks: list[tuple[Any, Any, Any]]) -> dict[str, Spread]:
    """Spreads from the marks before the forward, between, and after the backward."""
    return {
        "forward": Spread(tuple(clock.milliseconds(start, middle) for start, middle, _ in marks)),
        "backward": Spread(tuple(clock.milliseconds(middle, end) for _, middle, end in marks)),
        "sum": Spread(tuple(clock.milliseconds(start, end) for start, _, end in marks)),
    }


def _repeat(run: Callable[[int], Any], clock: Clock, budget: float) -> list[Any]:
    """Run once to warm up and as often as the budget holds; gives the marks of all runs but the first."""
    begin = time.perf_counter()
    run(0)
    clock.wait()
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    marks = [run(1)]
    clock.wait()
    second = max(1e-9, min(first, time.perf_counter() - begin))
    repeats = max(_FEWEST, min(_MOST, int(budget / second)))
    marks.extend([run(index) for index in range(2, 1 + repeats)])
    clock.wait()
    return marks


def measure_memory(candidate: Candidate, arguments: Arguments, grad_y: Tensor) -> Memory:
    """Count what one forward and backward allocate."""
    leaves, grad = differentiable(candidate, arguments), candidate.native_tensor(grad_y)
    if grad_y.device.type != "cuda":
        return Memory(_saved_tensors(candidate, leaves), None)
    device = grad_y.device
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    y = candidate.call(leaves)
    saved = torch.cuda.memory_allocated(device) - before - size_of([y])
    grads = torch.autograd.grad(y, list(leaves.values()), grad)
    peak = torch.cuda.max_memory_allocated(device) - before - size_of([y, *grads])
    return Memory(max(0, saved), max(0, peak))


def _saved_tensors(candidate: Candidate, leaves: Arguments) -> int:
    """Bytes of the storages that autograd keeps, those of inputs and result aside."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y = candidate.call(leaves)
    # y lives on, and with it the graph, so no address is used twice
    for x in (y, *leaves.values()):
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values())
