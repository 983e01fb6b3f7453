"""What a causal layer carries from one chunk of a sequence to the next."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree


@runtime_checkable
class MixerState(Protocol):
    """The state of any mixer: a tuple of tensors whose first axis is the batch."""

    def detach(self) -> MixerState:
        """Return the same values cut from the graph, for truncated backpropagation through time."""
        ...


class MambaState(NamedTuple):
    """State of one Mamba layer, float32.

    Attributes:
        conv: The last ``d_conv - 1`` inputs of the convolution, oldest first.
        scan: The hidden state h of the scan.
    """

    conv: Float[Tensor, "batch width dim"]
    scan: Float[Tensor, "batch dim state"]

    def detach(self) -> MambaState:
        """Return the same values cut from the graph."""
        return MambaState(self.conv.detach(), self.scan.detach())


# A saved torch.export program names the tuples of its signature and is loaded without unpickling code.
_pytree._register_namedtuple(MambaState, serialized_type_name="seqmamba.nn.MambaState")
torch.serialization.add_safe_globals([MambaState])
