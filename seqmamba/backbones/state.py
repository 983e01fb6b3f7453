"""What a causal backbone carries from one chunk to the next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.utils import _pytree

from seqmamba.nn.state import MixerState


class BackboneState(NamedTuple):
    """The states of all layers. `Backbone.init_state` makes one; every call returns a new one.

    Attributes:
        layers: One mixer state a layer, first layer first.
    """

    layers: tuple[MixerState, ...]

    def detach(self) -> BackboneState:
        """Return the same values cut from the graph, for truncated backpropagation through time."""
        return BackboneState(tuple(state.detach() for state in self.layers))


# As for the states of the mixers: a saved export names this tuple and is loaded without unpickling code.
_pytree._register_namedtuple(BackboneState, serialized_type_name="seqmamba.backbones.BackboneState")
torch.serialization.add_safe_globals([BackboneState])
