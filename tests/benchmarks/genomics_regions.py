"""What a region of a million bases takes that no verb does: genes by a model, and steps of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from genomics_inputs import CHROMOSOME, Inputs, first_letters
from torch import Tensor, nn

from genomics.alphabet import encode
from genomics.gene_decoding import grammar, likeliest_labels, segments
from genomics.gene_labels import SCHEMES
from genomics.masked_model import MaskedModel, MaskedModelConfig
from genomics.pretraining import Objectives, PretrainingConfig
from genomics.segmentation_results import write_gff3
from seqmamba.backbones import from_pretrained

STEPS = 2


def find_genes(models: Path, inputs: Inputs, device: str) -> float:
    """What a test of the recipe does with a region: log-probabilities, decoding, GFF3."""
    model = from_pretrained(models / "segmentation", map_location=device).eval()
    tokens = _tokens(inputs, device)
    with torch.inference_mode(), _autocast(device):
        slices = [part.log_softmax(-1).half().cpu() for _, part in model.logit_slices(tokens)]
    scores = torch.cat(slices, dim=1)[0].numpy()
    assert np.isfinite(scores).all()
    labels = likeliest_labels(scores, grammar(SCHEMES["coding"]))
    write_gff3(inputs.output("genes.gff3"), [(CHROMOSOME, 0, segments(labels))])
    return len(labels)


def train_segmentation(models: Path, inputs: Inputs, device: str) -> float:
    model = from_pretrained(models / "segmentation", map_location=device).train()
    tokens = _tokens(inputs, device)
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, len(SCHEMES["coding"].classes), tokens.shape, generator=draw, dtype=torch.int8)
    return _train(model, lambda: model.loss(tokens, labels.to(device)), tokens.numel(), device)


def train_masked(models: Path, inputs: Inputs, device: str) -> float:
    stored = from_pretrained(models / "masked", map_location=device)
    backbone = replace(stored.config.backbone, checkpoint_activations=True)
    model = MaskedModel(MaskedModelConfig(backbone)).to(device).train()
    objectives = Objectives(model, PretrainingConfig(backbone))
    tokens = _tokens(inputs, device)
    batch: dict[str, Any] = {
        "tokens": tokens,
        "lower": torch.zeros_like(tokens, dtype=torch.bool),
        "lengths": None,
    }
    batch |= {name: torch.zeros(1, dtype=torch.int64, device=device) for name in ("keys", "genome")}
    return _train(
        model, lambda: objectives.loss(objectives.ask(batch, training=True)), tokens.numel(), device
    )


def _train(model: nn.Module, loss: Callable[[], Tensor], bases: int, device: str) -> float:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
    for _ in range(STEPS):
        with _autocast(device):
            value = loss()
        value.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert value.isfinite()
    return STEPS * bases


def _autocast(device: str) -> torch.autocast:
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def _tokens(inputs: Inputs, device: str) -> Tensor:
    letters = first_letters(inputs.genome, inputs.scale.bases)
    return torch.from_numpy(encode(letters)).to(device)[None]
