"""What a causal backbone carries from one chunk to the next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqmamba.nn.state import MixerState, map_state, register_state, repeat_rows, select_rows


@register_state
class BackboneState(NamedTuple):
    """The states of all layers. `Backbone.init_state` makes one; every call returns a new one.

    Attributes:
        layers: One mixer state a layer, first layer first.
    """

    layers: tuple[MixerState, ...]

    def detach(self) -> BackboneState:
        """Return the same values cut from the graph, for truncated backpropagation through time."""
        return map_state(Tensor.detach, self)

    def select(self, rows: Tensor | slice) -> BackboneState:
        """Return the states of some sequences of the batch.

        Args:
            rows: Indices, a mask or a slice of the batch axis.
        """
        return select_rows(self, rows)

    def repeat(self, copies: int) -> BackboneState:
        """Return copies of every sequence's state side by side, to continue one prefix in several ways.

        Args:
            copies: How many of each.
        """
        return repeat_rows(self, copies)

    def to(self, device: torch.device | str) -> BackboneState:
        """Return the state on another device."""
        return map_state(lambda x: x.to(device), self)
