"""Losses of long sequences in the memory of a short one: segment by segment, with the state carried.

A causal model needs no more of the past than its state. So the gradient of a sequence's loss can be had from
its segments: first all of them run without a graph and leave the states between them; then each runs again,
the last one first, and hands the gradient of the state that it began with to the segment before it. That is
checkpointing (Chen et al. 2016, arXiv:1604.06174) along time instead of depth: the exact gradient for one
more forward pass, in memory that grows with the number of states only. Without the gradient between segments
it is truncated back-propagation through time (Williams & Peng 1990), which needs no second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils import _pytree

from seqmamba.distributed import is_distributed
from seqmamba.errors import UserError
from seqmamba.nn.options import require_bool, require_whole
from seqmamba.nn.state import map_state

Segment = Callable[[int, Any], tuple[Float[Tensor, ""], Any]]
"""Number of a segment and the state before it -> its loss, which is added up, and the state behind it."""


@dataclass(frozen=True)
class BackpropConfig:
    """How much of a sequence's graph is held for the backward pass of a causal model.

    Args:
        length: Positions of a segment: the graph of one is held at a time, see `segmented_loss`. None holds
            that of the whole sequence.
        truncate: Whether the gradient stops where segments meet. Otherwise it is exact, for one more forward
            pass.
        carry: Whether a step begins with the states that the step before ended with, where the data go on
            with the sequences of that step. No gradient flows from step to step.

    Raises:
        UserError: If a value is out of range.
    """

    length: int | None = None
    truncate: bool = False
    carry: bool = False

    def __post_init__(self) -> None:
        if self.length is not None:
            require_whole("backprop.length", self.length)
        require_bool("backprop.truncate", self.truncate)
        require_bool("backprop.carry", self.carry)

    @property
    def whole(self) -> bool:
        """Whether sequences are taken one by one and whole, as without any of this."""
        return self.length is None and not self.carry


class CarriedState:
    """The states of a batch's rows from step to step, for truncated back-propagation over long sequences."""

    def __init__(self) -> None:
        self._state: Any = None

    def begin(self, fresh: Bool[Tensor, " batch"], initial: Any) -> Any:
        """Return the state that a step starts with.

        Args:
            fresh: Rows in which another sequence begins.
            initial: The state before a sequence, for all rows; if there are more or fewer rows than before,
                all begin anew.

        Raises:
            UserError: If the states kept are of another size than those before a sequence.
        """
        if self._state is None or _rows(self._state) != _rows(initial):
            return initial
        (old, form), (new, expected) = _pytree.tree_flatten(self._state), _pytree.tree_flatten(initial)
        if form != expected or not all(map(_alike, old, new)):
            raise UserError(
                "backprop.carry: expected states of one size at every step, which attention without a window "
                "and stages whose frames cross the borders of windows do not have"
            )
        chosen = []
        for carried, first in zip(old, new, strict=True):
            if isinstance(first, Tensor):
                rows = fresh.to(first.device).view(-1, *(1,) * (first.ndim - 1))
                first = torch.where(rows, first, carried.to(first.device))
            chosen.append(first)
        return _pytree.tree_unflatten(chosen, expected)

    def keep(self, state: Any) -> None:
        """Keep the state that a step ended with."""
        self._state = map_state(Tensor.detach, state)

    def clear(self) -> None:
        """Forget it: all rows begin anew."""
        self._state = None

    def state_dict(self) -> list[Any]:
        """Return the states of all processes on the CPU for a checkpoint, None where there is none.

        Every process must ask.
        """
        own = map_state(Tensor.cpu, self._state)
        if not is_distributed():
            return [own]
        states: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(states, own)
        return states

    def load_state_dict(self, states: Sequence[Any], place: int, count: int) -> None:
        """Take back what `state_dict` returned.

        Args:
            states: Of all processes that there were.
            place: Number of this process.
            count: How many there are; of another number of processes, each takes its share of all rows.
        """
        self._state = None
        if len(states) == count:
            self._state = states[place]
        elif states and states[0] is not None and len(states) * _rows(states[0]) % count == 0:
            leaves, forms = zip(*map(_pytree.tree_flatten, states), strict=True)
            own = [
                torch.cat(parts).chunk(count)[place] if isinstance(parts[0], Tensor) else parts[0]
                for parts in zip(*leaves, strict=True)
            ]
            self._state = _pytree.tree_unflatten(own, forms[0])


class SegmentedLoss(NamedTuple):
    """The loss of a sequence.

    Attributes:
        loss: Sum of the segments' losses, a float32 scalar. Its backward hands out gradients that are known
            by now.
        state: The state behind the last segment, without a graph.
    """

    loss: Float[Tensor, ""]
    state: Any


def segmented_loss(
    segment: Segment, count: int, state: Any, parameters: Iterable[Tensor], *, truncate: bool = False
) -> SegmentedLoss:
    """Return the summed loss of a sequence's segments, holding the graph of one segment at a time.

    The second run of a segment draws the random numbers of the first, so dropout is that of one pass. With
    gradients accumulated and under DistributedDataParallel the loss acts as any other.

    Args:
        segment: Computes the loss of a segment from its number, the state and the parameters alone. It is
            called once or twice for each.
        count: Number of segments.
        state: The state before the first; no gradient flows into it.
        parameters: What gradients are wanted of.
        truncate: Whether the gradient stops where segments meet.

    Returns:
        The loss and the last state.

    Raises:
        UserError: If there is no segment.
    """
    require_whole("count", count)
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    loss, run = _Known.apply(_Run(segment, count, state, wanted), truncate, *wanted)
    return SegmentedLoss(loss, run.state)


class _Known(torch.autograd.Function):
    """A loss whose gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, run: _Run, truncate: bool, *wanted: Tensor) -> tuple[Tensor, _Run]:
        if truncate:
            run.truncated()
        else:
            run.exact()
        ctx.gradients = run.gradients
        return run.loss, run

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        return (None, None, *(None if each is None else each * gradient for each in ctx.gradients))


class _Run:
    """Goes through the segments and adds up loss and gradients."""

    def __init__(self, segment: Segment, count: int, state: Any, wanted: Sequence[Tensor]) -> None:
        self._segment, self._count = segment, count
        self.state = map_state(Tensor.detach, state)
        self.gradients: list[Tensor | None] = [None] * len(wanted)
        self._wanted = list(wanted)
        self._losses: list[Tensor] = []

    @property
    def loss(self) -> Tensor:
        return torch.stack(self._losses).sum()

    def truncated(self) -> None:
        for number in range(self._count):
            with torch.enable_grad():
                loss, state = self._segment(number, self.state)
            self._differentiate(loss, [], [], [])
            self.state = map_state(Tensor.detach, state)

    def exact(self) -> None:
        states, random = [self.state], []
        with torch.no_grad():
            for number in range(self._count - 1):  # the last one needs no run but that for its gradient
                random.append(_random_state(self._wanted))
                states.append(self._segment(number, states[-1])[1])
        arriving: list[Tensor | None] = []
        for number in reversed(range(self._count)):
            before = map_state(_leaf, states.pop())
            if number < self._count - 1:
                _restore(random[number])
            with torch.enable_grad():
                loss, after = self._segment(number, before)
            if number == self._count - 1:
                drawn = _random_state(self._wanted)
                self.state = map_state(Tensor.detach, after)
                arriving = [None] * len(_differentiable(after))
            arriving = self._differentiate(loss, _differentiable(after), arriving, _differentiable(before))
        _restore(drawn)

    def _differentiate(
        self, loss: Tensor, after: list[Tensor], arriving: list[Tensor | None], before: list[Tensor]
    ) -> list[Tensor | None]:
        """Add a segment's gradients, and return those of the state before it."""
        reached = [(x, g) for x, g in zip(after, arriving, strict=True) if g is not None and x.requires_grad]
        found = torch.autograd.grad(
            [loss, *(x for x, _ in reached)],
            [*self._wanted, *before],
            [torch.ones_like(loss), *(g for _, g in reached)],
            allow_unused=True,
        )
        for place, gradient in enumerate(found[: len(self._wanted)]):
            have = self.gradients[place]
            if gradient is not None:
                # not in place: parameters that were added to each other have one gradient between them
                self.gradients[place] = gradient if have is None else have + gradient
        self._losses.append(loss.detach().float())
        return list(found[len(self._wanted) :])


def _rows(state: Any) -> int:
    """Return the sequences whose states these are, the first axis of every tensor."""
    return next((len(x) for x in _pytree.tree_leaves(state) if isinstance(x, Tensor)), 0)


def _alike(carried: Any, first: Any) -> bool:
    if isinstance(first, Tensor):
        return isinstance(carried, Tensor) and carried.shape == first.shape
    return bool(carried == first)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.is_floating_point() or tensor.is_complex())


def _differentiable(state: Any) -> list[Tensor]:
    """Return the tensors of a state that may have a gradient, in the order of the tree."""
    leaves = _pytree.tree_leaves(state)
    return [x for x in leaves if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())]


def _random_state(tensors: Sequence[Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the state of the random numbers of the CPU and of the GPUs in use."""
    devices = {x.get_device() for x in tensors if x.is_cuda}
    return torch.get_rng_state(), {device: torch.cuda.get_rng_state(device) for device in devices}


def _restore(state: tuple[Tensor, dict[int, Tensor]]) -> None:
    torch.set_rng_state(state[0])
    for device, each in state[1].items():
        torch.cuda.set_rng_state(each, device)
