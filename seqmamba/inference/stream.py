"""A sequence that arrives piece by piece."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from seqmamba.backbones.isotropic import Backbone
from seqmamba.backbones.state import BackboneState


class Stream:
    """Feeds a causal backbone chunk by chunk in constant memory; the outputs are those of the whole sequence.

    Args:
        backbone: A causal backbone; its training or evaluation mode is left as it is.
        batch_size: Sequences that run side by side.

    Raises:
        UserError: If the backbone is bidirectional.
    """

    def __init__(self, backbone: Backbone, batch_size: int = 1) -> None:
        self.backbone = backbone
        self.batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        """Forget everything: the next position is the first of a new sequence."""
        self.state: BackboneState = self.backbone.init_state(self.batch_size)
        self.position = 0

    @torch.no_grad()
    def feed(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Run the next chunk, of any length from 1.

        Args:
            x: The features that follow those fed before.

        Returns:
            The outputs at these positions, without gradient.
        """
        y, self.state = self.backbone(x, state=self.state, return_state=True)
        self.position += x.shape[1]
        return y
