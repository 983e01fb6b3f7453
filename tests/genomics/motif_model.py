"""A model with a known answer: how well a sequence matches a motif."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genomics.alphabet import encode
from genomics.models import SequenceModel, SequenceModelConfig
from seqmamba.backbones.config import BackboneConfig

MOTIF = "TATGCAAAT"


class MotifModel(SequenceModel):
    """Answers class 1 in proportion to the best match of a planted motif."""

    def forward_embedded(self, one_hot: Tensor, lengths: Tensor | None = None) -> Tensor:
        filters = torch.zeros(1, one_hot.shape[-1], len(MOTIF))
        filters[0, torch.from_numpy(encode(MOTIF).astype(np.int64)), torch.arange(len(MOTIF))] = 1
        match = F.conv1d(one_hot.transpose(1, 2), filters)[:, 0]
        score = torch.logsumexp(2 * match, dim=-1)
        return torch.stack([torch.zeros_like(score), score], dim=-1)


def small_config(
    task: str = "classification", classes: tuple[str, ...] = ("a", "b", "c")
) -> SequenceModelConfig:
    backbone = BackboneConfig(d_model=8, n_layers=1, direction="bidirectional", d_state=4)
    return SequenceModelConfig(backbone=backbone, task=task, classes=classes, dropout=0.3)  # type: ignore[arg-type]
