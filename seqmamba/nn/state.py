"""What a causal layer carries from one chunk of a sequence to the next.

A state is a tree of named tuples. Its tensors have the batch as their first axis and are float32 (complex64
where the state is complex, float64 in a float64 model); whole numbers in it say where in the sequence it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Complex, Float, Inexact, Int
from torch import Tensor
from torch.utils import _pytree

from seqmamba.errors import UserError

MixerState = tuple[Any, ...]
"""The state of any mixer: a named tuple of tensors, whole numbers and further named tuples."""
State = TypeVar("State")


def register_state(cls: type[State]) -> type[State]:
    """Let programs saved by torch.export, which are loaded without unpickling code, name a state.

    Args:
        cls: A named tuple; its module path is part of the saved name.

    Returns:
        The same class, so that this can be used as a decorator.
    """
    name = f"{cls.__module__.rpartition('.')[0]}.{cls.__name__}"
    _pytree._register_namedtuple(cls, serialized_type_name=name)
    torch.serialization.add_safe_globals([cls])
    return cls


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply a function to every tensor of a state; everything else is kept.

    Args:
        function: For instance ``Tensor.detach``, or ``lambda x: x[rows]`` to select sequences of the batch.
        state: Any state.

    Returns:
        A state of the same type.
    """
    return _pytree.tree_map_only(Tensor, function, state)


def select_rows(state: State, rows: Tensor | slice) -> State:
    """Return the states of some sequences of the batch.

    Args:
        state: Any state.
        rows: Indices, a mask or a slice of the batch axis.
    """
    return map_state(lambda x: x[rows], state)


def repeat_rows(state: State, copies: int) -> State:
    """Return a state with copies of every sequence side by side: all copies of the first, then of the second.

    Args:
        state: Any state.
        copies: How many of each.
    """
    return map_state(lambda x: x.repeat_interleave(copies, dim=0), state)


def concatenate_states(states: Sequence[State]) -> State:
    """Return the state of several batches as one batch, first batch first.

    Args:
        states: States of one model, of the same form but for their batch sizes.

    Raises:
        UserError: If there is none, or they differ in their form or their whole numbers.
    """
    if not states:
        raise UserError("states: expected at least one state, got none")
    forms = [describe_state(select_rows(state, slice(0, 0))) for state in states]
    for form in forms[1:]:
        if form != forms[0]:
            raise UserError(f"states: expected one form, got {first_difference(forms[0], form)}")
    leaves = [_pytree.tree_leaves(state) for state in states]
    joined = [
        torch.cat(same) if isinstance(same[0], Tensor) else same[0] for same in zip(*leaves, strict=True)
    ]
    return _pytree.tree_unflatten(joined, _pytree.tree_structure(states[0]))


def describe_state(state: Any) -> dict[str, Any]:
    """Return a state's form: the shapes and dtypes of its tensors, and its whole numbers, each by its path.

    Args:
        state: Any state.
    """
    leaves, _ = _pytree.tree_flatten_with_path(state)
    return {
        _pytree.keystr(path).lstrip("."): (tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x
        for path, x in leaves
    }


def first_difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Name the first part in which two descriptions by `describe_state` differ, and say what it is in each.

    Args:
        before: Of one state.
        after: Of the other.
    """
    names = [name for name in (*before, *after) if before.get(name) != after.get(name)]
    return f"{names[0]}: {_written(before.get(names[0]))} and {_written(after.get(names[0]))}"


def _written(part: Any) -> str:
    return f"{str(part[1]).removeprefix('torch.')} {part[0]}" if isinstance(part, tuple) else str(part)


@register_state
class MambaState(NamedTuple):
    """State of one Mamba layer.

    Attributes:
        conv: The last ``d_conv - 1`` inputs of the convolution, oldest first.
        scan: The hidden state h of the scan.
    """

    conv: Float[Tensor, "batch width dim"]
    scan: Inexact[Tensor, "batch dim state"]


@register_state
class Mamba2State(NamedTuple):
    """State of one Mamba-2 layer.

    Attributes:
        conv: The last ``d_conv - 1`` inputs of the convolution (x, B and C side by side), oldest first.
        scan: The hidden state of each head.
    """

    conv: Float[Tensor, "batch width channels"]
    scan: Float[Tensor, "batch heads head_dim state"]


@register_state
class AttentionState(NamedTuple):
    """State of one attention layer.

    Attributes:
        keys: Rotated keys, oldest first: of all positions, or with a window of the last ``window - 1``.
        values: Values of the same positions.
        position: Positions since the start of each sequence; no more than these of the cached are its own.
        packed: Whether the cache may hold others than those: a window's does from the start.
        conv: The last ``d_conv - 1`` inputs of the convolution, oldest first; ``None`` if there is none.
    """

    keys: Float[Tensor, "batch cached heads head_dim"]
    values: Float[Tensor, "batch cached heads head_dim"]
    position: Int[Tensor, " batch"]
    packed: bool
    conv: Float[Tensor, "batch width channels"] | None = None


@register_state
class LSTMState(NamedTuple):
    """State of one LSTM layer.

    Attributes:
        hidden: The last output h.
        cell: The memory c.
    """

    hidden: Float[Tensor, "batch dim"]
    cell: Float[Tensor, "batch dim"]


@register_state
class GRUState(NamedTuple):
    """State of one GRU layer.

    Attributes:
        hidden: The last output h.
    """

    hidden: Float[Tensor, "batch dim"]


@register_state
class S4State(NamedTuple):
    """State of one S4 layer.

    Attributes:
        hidden: The state x, half of its conjugate pairs.
    """

    hidden: Complex[Tensor, "batch dim state"]
