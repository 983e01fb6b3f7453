"""Our models as the tools of the field want them: a plain module over one-hot input, channels first.

tangermeme, captum and their like take an ``nn.Module`` that maps (batch, 4, length), in the order A, C, G, T
and all zero for an unknown base, to (batch, outputs).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genomics.alphabet import N
from genomics.attribution import NUCLEOTIDES, explained_output, target_indices
from genomics.models import SequenceModel


class OneHotModule(nn.Module):
    """A sequence model over one-hot bases that answers with log-odds, or values for regression.

    What a position lacks to a sum of one is filled with N as the model reads it, so an all-zero position is
    an N. Where N is a quarter of each base (every model with a convolution in front), a gradient with respect
    to the input is therefore centred over the bases, as `gradient_x_input` has it.

    Args:
        model: The model; it is put into evaluation mode with this module.
        target: The class or target to answer for; None answers for all of them.

    Raises:
        UserError: ``target`` is not an output of the model.
    """

    def __init__(self, model: SequenceModel, target: int | None = None) -> None:
        super().__init__()
        self.model = model
        count = len(model.config.classes)
        self.targets = tuple(range(count)) if target is None else (target,)
        for number in self.targets:
            target_indices(model, model.token_weights.new_zeros(1, 1), number)
        self.eval()

    def forward(self, one_hot: Float[Tensor, "batch 4 length"]) -> Float[Tensor, "batch outputs"]:
        """Answer for a batch of sequences of one length.

        Args:
            one_hot: Weights of A, C, G and T at every position; all zero for an unknown base.

        Returns:
            Log-odds of each class against all others (multi-label: against its absence), or the values of the
            targets in their units.
        """
        table = self.model.token_weights
        bases = one_hot.transpose(1, 2).to(table.dtype)
        missing = 1 - bases.sum(dim=-1, keepdim=True)
        weights = bases @ table[list(NUCLEOTIDES)] + missing * table[N]
        logits = self.model.forward_embedded(weights)
        columns = [
            explained_output(self.model, logits, target_indices(self.model, logits, number))
            for number in self.targets
        ]
        return torch.stack(columns, dim=1)
