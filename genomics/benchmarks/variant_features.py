"""Hidden states around variants of the long-range benchmark, with and without each, kept on disk.

    OUT/features/plan.json      the model, the window, the variants
    OUT/features/00000.npz      ...

A shard appears whole or not at all; the same command goes on behind the last one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genomics.alphabet import N, TokenArray
from genomics.benchmarks.long_range import LabelledVariant, VariantWindows
from genomics.embedding_models import Embedder
from genomics.equivariance import mirror, reverse_complement_tokens
from genomics.variant_scores import averages_strands
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.model_identity import fingerprint
from seqmamba.progress import Progress

AROUND = 1_536
"""Bases around a variant whose hidden states are averaged, as in the experiments of Caduceus."""

SHARD = 1_024
_BATCH_BASES = 65_536


@dataclass(frozen=True)
class VariantFeatures:
    """Features of variants whose window lies inside its chromosome.

    Attributes:
        kept: Places of these variants in the list that was given.
        forward: Mean hidden states around the variant, of the reference and of the alternative, as the given
            strand is read.
        reverse: The same as the other strand is read.
        mismatch: Whether REF is not what the genome has there.
        unknown: Share of unknown bases in the window.
        averaged: Whether the model reads both strands alike, so that `forward` is `reverse`.
    """

    kept: Int[np.ndarray, " n"]
    forward: Float[np.ndarray, "n 2 dim"]
    reverse: Float[np.ndarray, "n 2 dim"]
    mismatch: Bool[np.ndarray, " n"]
    unknown: Float[np.ndarray, " n"]
    averaged: bool


def variant_features(
    model: torch.nn.Module,
    variants: Sequence[LabelledVariant],
    genome: str | Path,
    window: int,
    folder: Path,
) -> VariantFeatures:
    """Compute the features of variants, or go on where an earlier call stopped.

    A variant that the table has for several tissues is read once.

    Args:
        model: A frozen model of DNA.
        variants: The variants.
        genome: FASTA file.
        window: Bases around each that the model reads.
        folder: Where the features are kept.

    Raises:
        UserError: If the folder holds those of something else, or the genome lacks a chromosome.
    """
    places: dict[tuple[str, int, str | None, str], list[int]] = {}
    for number, one in enumerate(variants):
        places.setdefault((one.chrom, one.position, one.ref, one.alt), []).append(number)
    unique = [variants[numbers[0]] for numbers in places.values()]
    _check_plan(model, unique, genome, window, folder)
    reader = _Reader(model, VariantWindows(genome, window))
    shards = [unique[start : start + SHARD] for start in range(0, len(unique), SHARD)]
    progress = Progress(len(unique), unit="variants")
    rows = []
    for number, shard in enumerate(shards):
        path = folder / f"{number:05d}.npz"
        if not path.exists():
            with atomic_path(path) as part, part.open("wb") as handle:
                np.savez(handle, **reader.read(shard))  # type: ignore[arg-type]
        with np.load(path, allow_pickle=False) as stored:
            rows.append(dict(stored))
        progress.advance(len(shard))
    progress.finish()
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    groups = list(places.values())
    spread = np.array([i for i, numbers in enumerate(groups) for _ in numbers])
    kept = np.array([number for numbers in groups for number in numbers])
    inside = np.flatnonzero(columns.pop("inside")[spread])
    inside = inside[np.argsort(kept[inside], kind="stable")]
    if not len(inside):
        raise UserError(f"no window of {window:,} bases around a variant lies inside its chromosome")
    chosen = {name: column[spread[inside]] for name, column in columns.items()}
    return VariantFeatures(kept[inside], **chosen, averaged=reader.averaged)


class _Reader:
    """Reads windows around variants with a model."""

    def __init__(self, model: torch.nn.Module, windows: VariantWindows) -> None:
        self.averaged = averages_strands(model)
        self._embedder = Embedder(model)
        self._device = next(model.parameters()).device
        self._windows = windows

    def read(self, variants: Sequence[LabelledVariant]) -> dict[str, np.ndarray]:
        """Return the columns of `VariantFeatures`, and ``inside``; what is not inside has zeros."""
        found: dict[int, tuple[TokenArray, TokenArray]] = {}
        mismatch = np.zeros(len(variants), dtype=bool)
        for i, one in enumerate(variants):
            before = self._windows.counts["ref_mismatch"]
            pair = self._windows(one)
            if pair is not None:
                found[i] = pair
                mismatch[i] = self._windows.counts["ref_mismatch"] > before
        numbers = np.array(list(found), dtype=np.int64)
        inside = np.zeros(len(variants), dtype=bool)
        inside[numbers] = True
        unknown = np.zeros(len(variants))
        unknown[numbers] = [(reference == N).mean() for reference, _ in found.values()]
        dim = self._vectors(torch.full((1, 8), N)).shape[-1]
        columns = {
            name: np.zeros((len(variants), 2, dim), dtype=np.float32) for name in ("forward", "reverse")
        }
        for batch in self._batches(numbers, found):
            tokens = torch.from_numpy(np.stack([found[i][allele] for i in batch for allele in (0, 1)]))
            tokens = tokens.long()
            given = self._vectors(tokens)
            columns["forward"][batch] = given.reshape(len(batch), 2, dim)
            turned = given if self.averaged else self._vectors(tokens, turned=True)
            columns["reverse"][batch] = turned.reshape(len(batch), 2, dim)
        return columns | {"mismatch": mismatch, "unknown": unknown, "inside": inside}

    @staticmethod
    def _batches(numbers: np.ndarray, found: dict[int, tuple[TokenArray, TokenArray]]) -> Iterator[list[int]]:
        if len(numbers):
            size = max(1, _BATCH_BASES // (2 * len(found[int(numbers[0])][0])))
            for start in range(0, len(numbers), size):
                yield numbers[start : start + size].tolist()

    def _vectors(self, tokens: Tensor, *, turned: bool = False) -> np.ndarray:
        """Average the hidden states from half of `AROUND` in front of the middle to as much behind it.

        Positions past an end of the window stand for the end, as in the published experiment.
        """
        tokens = tokens.to(self._device)
        lengths = torch.full((len(tokens),), tokens.shape[1], device=self._device)
        if turned:
            states = mirror(self._embedder.features(reverse_complement_tokens(tokens), lengths))
        else:
            states = self._embedder.features(tokens, lengths)
        middle = tokens.shape[1] // 2
        around = torch.arange(middle - AROUND // 2, middle + AROUND // 2 + 1, device=self._device)
        # One position after the other would take as much memory as the window; weights take a row.
        weights = torch.bincount(around.clamp(0, tokens.shape[1] - 1), minlength=tokens.shape[1]).float()
        means: np.ndarray = torch.einsum("l,bld->bd", weights / weights.sum(), states).cpu().numpy()
        return means


def _check_plan(
    model: torch.nn.Module,
    variants: Sequence[LabelledVariant],
    genome: str | Path,
    window: int,
    folder: Path,
) -> None:
    digest = hashlib.sha256()
    for one in variants:
        digest.update(f"{one.chrom} {one.position} {one.ref} {one.alt}\n".encode())
    plan = {
        "encoder": fingerprint(model),
        "window": window,
        "variants": digest.hexdigest()[:16],
        "genome": Path(genome).expanduser().stat().st_size if Path(genome).expanduser().exists() else 0,
    }
    path = folder / "plan.json"
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        changed = [name for name in plan if before.get(name) != plan[name]]
        if changed:
            raise UserError(
                f"{folder}: holds the features of another {', '.join(changed)}",
                hint="name another folder, or remove this one",
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
