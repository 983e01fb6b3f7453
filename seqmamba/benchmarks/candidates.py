"""Something that can be timed: one of our implementations, or a peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from seqmamba.benchmarks.inputs import Arguments

Kind = Literal["seqmamba", "peer"]


@dataclass(frozen=True)
class Candidate:
    """A function from an operator's arguments to its result.

    Attributes:
        name: As it is printed.
        kind: Ours or a peer.
        call: Takes the arguments in its own layout, gives y in its own layout.
        transposed: Its layout is (batch, channels, length); it gets contiguous tensors of that layout, made
            outside the timed region.
    """

    name: str
    kind: Kind
    call: Callable[[Arguments], Tensor]
    transposed: bool = False

    def native_tensor(self, x: Tensor) -> Tensor:
        """`x` in this candidate's layout."""
        return x.transpose(1, 2).contiguous() if self.transposed and x.ndim == 3 else x

    def native(self, arguments: Arguments) -> Arguments:
        """Arguments in this candidate's layout."""
        return {name: self.native_tensor(x) for name, x in arguments.items()}

    def ours(self, x: Tensor) -> Tensor:
        """`x` from this candidate's layout, as a view."""
        return x.transpose(1, 2) if self.transposed and x.ndim == 3 else x
