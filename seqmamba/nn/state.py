"""What a causal layer carries from one chunk of a sequence to the next.

A state is a tree of named tuples. Its tensors have the batch as their first axis and are float32 (complex64
where the state is complex, float64 in a float64 model); whole numbers in it say where in the sequence it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Inexact
from torch import Tensor
from torch.utils import _pytree

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


@register_state
class MambaState(NamedTuple):
    """State of one Mamba layer.

    Attributes:
        conv: The last ``d_conv - 1`` inputs of the convolution, oldest first.
        scan: The hidden state h of the scan.
    """

    conv: Float[Tensor, "batch width dim"]
    scan: Inexact[Tensor, "batch dim state"]
