"""CAGE prediction of the long-range benchmark by a ridge regression on a frozen model's bins.

The features of a bin are the mean hidden state of its bases and the values log(1 + coverage). Only sums of
products are kept, so memory depends on features and tracks, not on windows; they are saved now and then, and
the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from genomics.benchmarks.long_range_tracks import CAGE_BIN, CageWindow, read_cage
from genomics.benchmarks.task_rows import TaskRow
from genomics.embedding_models import Embedder
from genomics.fasta import Fasta
from genomics.track_metrics import BlockMoments, evaluate_tracks
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.model_identity import fingerprint
from seqmamba.progress import Progress

PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
"""Ridge penalties on standardised features, in shares of the number of bins."""

_SAVED_EVERY = 64
_PARTS = ("train", "validation")


@dataclass
class _Sums:
    """Sums of products of features and values over the bins of one part, with a constant feature first."""

    bins: float
    xx: Float[np.ndarray, "features features"]
    xy: Float[np.ndarray, "features tracks"]
    yy: Float[np.ndarray, " tracks"]

    @classmethod
    def empty(cls, features: int, tracks: int) -> _Sums:
        return cls(0.0, np.zeros((features, features)), np.zeros((features, tracks)), np.zeros(tracks))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        self.bins += len(x)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += (y * y).sum(axis=0)

    def loss(self, weights: np.ndarray) -> float:
        """Return the mean squared error of a linear map, from the sums alone."""
        errors = self.yy - 2 * (weights * self.xy).sum(0) + (weights * (self.xx @ weights)).sum(0)
        return float(errors.mean() / max(self.bins, 1))


def cage_rows(
    model: nn.Module, source: Path, genome: str | Path, window: int | None, output: Path
) -> list[TaskRow]:
    """Fit on the training windows, choose the penalty on the validation windows, test on the others.

    Args:
        model: A frozen model.
        source: The release.
        genome: FASTA file of hg38.
        window: Bases that the model reads around the middle of each window; None for the window itself. Bins
            outside of what is read take no part.
        output: Folder that keeps the sums.

    Raises:
        UserError: If a file cannot be read, or a part has no window.
    """
    reader = _Bins(model, Fasta(genome), window)
    sums = _summed(reader, source, output / "sums.npz")
    weights, penalty = _fit(sums)
    test = [one for one in read_cage(source) if one.part == "test"]
    tracks = weights.shape[1]
    moments = BlockMoments(len(test), tracks)
    for number, one in enumerate(test):
        for x, y in reader.read(one):
            moments.add(np.full(len(x), number), x @ weights, y)
    names = tuple(f"track_{i}" for i in range(tracks))
    found = evaluate_tracks(moments, names)
    trained, tested = int(sums["train"].bins), int(moments.count[:, 0].sum())
    note = f"penalty {penalty:g}"
    return [
        TaskRow("ridge", "sound", part, metric, 1, trained, tested, metrics[metric], note=note)
        for part, metrics in sorted(found.items(), key=lambda item: item[0] != "mean")
        for metric in ("pearson", "r2")
    ]


class _Bins:
    """Turns windows into features and values of bins."""

    def __init__(self, model: nn.Module, genome: Fasta, window: int | None) -> None:
        if window is not None and window % CAGE_BIN:
            raise UserError(f"window: expected a multiple of the {CAGE_BIN} bases of a bin, got {window}")
        self.identity = f"{fingerprint(model)} {window}"
        self._embedder = Embedder(model)
        self._device = next(model.parameters()).device
        self._genome = genome
        self._window = window

    def read(self, one: CageWindow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features (with a constant in front) and values of a window, if it lies in its chromosome."""
        bins = len(one.targets)
        whole = one.interval
        if len(whole) != bins * CAGE_BIN:
            raise UserError(
                f"{whole}: has {bins} bins of {CAGE_BIN} bases, so it cannot be {len(whole):,} bases"
            )
        length = self._window or len(whole)
        # Counted in bins from the first of the targets, so that bins agree.
        first = (bins - length // CAGE_BIN) // 2
        start = whole.start + first * CAGE_BIN
        if start < 0 or start + length > self._genome.length(whole.chrom):
            return
        tokens = torch.from_numpy(self._genome.fetch(whole.chrom, start, start + length).astype(np.int64))
        lengths = torch.tensor([length], device=self._device)
        states = self._embedder.features(tokens[None].to(self._device), lengths)[0]
        means = states.unflatten(0, (-1, CAGE_BIN)).mean(dim=1).double().cpu().numpy()
        low, high = max(0, -first), max(0, -first) + min(bins, length // CAGE_BIN)
        y = np.log1p(one.targets[max(0, first) : max(0, first) + high - low].astype(np.float64))
        x = means[low:high]
        yield np.c_[np.ones(len(x)), x], y


def _summed(reader: _Bins, source: Path, path: Path) -> dict[str, _Sums]:
    """Return the sums of training and validation, from what an earlier call saved and the windows left."""
    done, sums = _load(path, reader.identity)
    progress = Progress(None, done, unit="windows")
    seen = 0
    for one in read_cage(source):
        if one.part not in _PARTS:
            continue
        seen += 1
        if seen <= done:
            continue
        for x, y in reader.read(one):
            part = sums.setdefault(one.part, _Sums.empty(x.shape[1], y.shape[1]))
            part.add(x, y)
        progress.advance(1)
        if seen % _SAVED_EVERY == 0:
            _save(path, reader.identity, seen, sums)
    progress.finish()
    _save(path, reader.identity, seen, sums)
    for name in _PARTS:
        if name not in sums:
            raise UserError(f"{source}: has no window for {name} that lies inside its chromosome")
    return sums


def _save(path: Path, identity: str, done: int, sums: dict[str, _Sums]) -> None:
    arrays = {f"{name}_{field}": value for name, one in sums.items() for field, value in vars(one).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, part.open("wb") as handle:
        np.savez(handle, identity=identity, done=done, **arrays)


def _load(path: Path, identity: str) -> tuple[int, dict[str, _Sums]]:
    if not path.exists():
        return 0, {}
    with np.load(path, allow_pickle=False) as stored:
        if str(stored["identity"]) != identity:
            raise UserError(f"{path}: holds sums of another model or window", hint="name another folder")
        fields = ("bins", "xx", "xy", "yy")
        sums = {
            name: _Sums(float(stored[f"{name}_bins"]), *(stored[f"{name}_{field}"] for field in fields[1:]))
            for name in _PARTS
            if f"{name}_bins" in stored
        }
        return int(stored["done"]), sums


def _fit(sums: dict[str, _Sums]) -> tuple[Float[np.ndarray, "features tracks"], float]:
    """Solve the ridge regression for every penalty; return the weights that do best on validation."""
    train, n = sums["train"], sums["train"].bins
    means = train.xx[0] / n
    deviation = np.sqrt(np.maximum(np.diag(train.xx) / n - means**2, 0))
    scale = np.where(deviation > 1e-8, 1 / np.maximum(deviation, 1e-8), 0.0)
    scale[0] = 0.0
    # Standardised: z = (x - mean) * scale; a constant feature has no weight.
    turn = np.diag(scale)
    turn[0] = -means * scale
    turn[0, 0] = 1.0
    zz, zy = turn.T @ train.xx @ turn, turn.T @ train.xy
    found = []
    for penalty in PENALTIES:
        ridge = np.where(scale > 0, penalty * n, 1.0)  # a feature without spread keeps a weight of 0
        ridge[0] = 0.0
        weights = turn @ np.linalg.solve(zz + np.diag(ridge), zy)
        found.append((sums["validation"].loss(weights), -penalty, weights))
    _, negative, weights = min(found, key=lambda each: each[:2])
    return weights, -negative
