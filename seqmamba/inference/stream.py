"""A sequence that arrives piece by piece."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from seqmamba.inference.model import CausalModel


class Stream:
    """Feeds a causal model chunk by chunk in constant memory; the outputs are those of the whole sequence.

    Args:
        model: A causal backbone or language model; its training or evaluation mode is left as it is.
        batch_size: Sequences that run side by side.

    Raises:
        UserError: If the model is bidirectional.
    """

    def __init__(self, model: CausalModel, batch_size: int = 1) -> None:
        self.model = model
        self.batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        """Forget everything: the next position is the first of a new sequence."""
        self.state: Any = self.model.init_state(self.batch_size)
        self.position = 0

    @torch.no_grad()
    def feed(self, x: Shaped[Tensor, "batch length *channels"]) -> Float[Tensor, "batch length outputs"]:
        """Run the next chunk, of any length from 1.

        Args:
            x: The features, or the tokens, that follow those fed before.

        Returns:
            The outputs at these positions, without gradient.
        """
        y, self.state = self.model(x, state=self.state, return_state=True)
        self.position += x.shape[1]
        return y
