"""Perplexity and accuracy of guessed bases: of all, by base, by case and by genome."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genomics.alphabet import BASES, A
from genomics.pretraining import Guesses

_N_BASES = 4
_N_CASES = 2
_CASES = ("unique", "repeat")
"""Upper and lower case, named after what they mean in soft-masked genomes."""


def count_guesses(guesses: Guesses, n_genomes: int) -> Float[Tensor, "genomes bases cases 3"]:
    """Sum the guesses of a batch by kind of base.

    Args:
        guesses: What was guessed.
        n_genomes: How many genomes there are.

    Returns:
        float64: the sum of the negative log-likelihoods, the right guesses, all guesses.
    """
    kind = (guesses.truth.long() - A) * _N_CASES + guesses.lower.long()
    nll = guesses.nll.masked_fill(~guesses.asked, 0.0).double()
    values = torch.stack((nll, guesses.right.double(), torch.ones_like(nll)), dim=-1)
    # Products instead of atomic sums: the same bits every time, on a GPU too.
    kinds = torch.arange(_N_BASES * _N_CASES, device=kind.device)
    member = (kind[..., None] == kinds) & guesses.asked[..., None]
    of_rows = member.double().transpose(1, 2) @ values
    genomes = torch.arange(n_genomes, device=kind.device)
    sums = (guesses.genome == genomes[:, None]).double() @ of_rows.flatten(1)
    return sums.view(n_genomes, _N_BASES, _N_CASES, 3)


def summarise_guesses(
    sums: Float[np.ndarray, "genomes bases cases 3"], repeat_weight: float, species: Sequence[str]
) -> dict[str, float]:
    """Turn sums into metrics; those of a kind that did not occur are left out.

    Args:
        sums: See `count_guesses`, of all batches.
        repeat_weight: Weight of lower case in the loss.
        species: Names of the genomes.

    Returns:
        ``loss`` (weighted, natural logarithm), ``perplexity`` and ``accuracy`` of all guesses, then of each
        base, of upper case (``unique``) and lower case (``repeat``), and, if there are several, of each
        genome.
    """
    weights = np.array([1.0, repeat_weight])
    weight = float((sums[..., 2].sum(axis=(0, 1)) * weights).sum())
    scores: dict[str, float] = {}
    if weight > 0:
        scores["loss"] = float((sums[..., 0].sum(axis=(0, 1)) * weights).sum()) / weight
    groups = {"": sums}
    groups |= {f"_{base}": sums[:, i] for i, base in enumerate(BASES[:_N_BASES])}
    groups |= {f"_{case}": sums[:, :, i] for i, case in enumerate(_CASES)}
    if len(species) > 1:
        groups |= {f"_{name}": sums[i] for i, name in enumerate(species)}
    for suffix, part in groups.items():
        nll, right, count = part.reshape(-1, 3).sum(axis=0).tolist()
        if count:
            scores[f"perplexity{suffix}"] = math.exp(min(nll / count, 700.0))  # e^710 is beyond float64
            scores[f"accuracy{suffix}"] = right / count
    return scores
