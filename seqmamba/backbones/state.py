"""What a causal backbone carries from one chunk to the next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqmamba.nn.state import MixerState, map_state, register_state


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
        return map_state(lambda x: x[rows], self)

    def to(self, device: torch.device | str) -> BackboneState:
        """Return the state on another device."""
        return map_state(lambda x: x.to(device), self)
