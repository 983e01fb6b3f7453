"""A frozen model and a linear one on its vectors: what a pretrained model knows without being trained."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import torch
from jaxtyping import Float

from genomics.alphabet import PAD
from genomics.baselines import Baseline, Problem
from genomics.datasets.records import TokenStore
from genomics.embedding_models import Embedder
from genomics.inference import batches_by_length
from seqmamba.linear import fit_linear
from seqmamba.model_identity import fingerprint
from seqmamba.progress import Progress
from seqmamba.training.exported import load_any_model

BATCH_BASES = 65_536


class FrozenEncoder:
    """One vector a sequence, remembered: the seeds of a benchmark share most of their sequences.

    Args:
        where: A run folder, a folder of a model, or a repository.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: If there is no model there, or one without features of DNA.
    """

    def __init__(self, where: str, device: str = "auto") -> None:
        model = load_any_model(where, device)
        self.embedder = Embedder(model)
        self.identity = fingerprint(model)
        self._device = next(model.parameters()).device
        self._known: dict[bytes, np.ndarray] = {}

    def __call__(self, tokens: TokenStore) -> Float[np.ndarray, "n dim"]:
        """Return the vectors of sequences, float32.

        Args:
            tokens: The sequences; padding inside them is read as an unknown base.
        """
        keys = [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in tokens]
        new = list({key: i for i, key in enumerate(keys) if key not in self._known}.values())
        progress = Progress(len(new), unit="sequences") if new else None
        for batch in batches_by_length([int(tokens.lengths[i]) for i in new], BATCH_BASES):
            places = [new[i] for i in batch]
            lengths = torch.from_numpy(tokens.lengths[places])
            rows = torch.full((len(places), int(lengths.max())), PAD)
            for row, place in enumerate(places):
                rows[row, : lengths[row]] = torch.from_numpy(tokens[place].astype(np.int64))
            vectors = self.embedder.pooled(rows.to(self._device), lengths.to(self._device))
            self._known.update(zip((keys[i] for i in places), vectors.float().cpu().numpy(), strict=True))
            if progress is not None:
                progress.advance(len(places))
        if progress is not None:
            progress.finish()
        return np.stack([self._known[key] for key in keys])


def linear_probe(encoder: FrozenEncoder, problem: Problem, tokens: TokenStore) -> Baseline:
    """Fit and test a linear model on the vectors of a frozen one.

    Args:
        encoder: The frozen model.
        problem: Labels and parts.
        tokens: The sequences, in the order of the labels.
    """
    started = time.perf_counter()
    vectors = torch.from_numpy(encoder(tokens))
    train, validation, test = (problem.parts[part] for part in ("train", "validation", "test"))
    model = fit_linear(
        vectors[train],
        problem.labels[train],
        (vectors[validation], problem.labels[validation]),
        problem.task,
        len(problem.classes),
    )
    return problem.result("probe", model(vectors[test]), started)
