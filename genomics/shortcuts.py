"""How far one trivial fact about a sequence tells its label: what a benchmark should not reward.

Each fact is a lookup table. The training part says which label goes with each value, or with each range of
values where few sequences share one, and the test part says how often that is right. Without a test part the
sequences take turns (five-fold cross-validation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from genomics.interval_sets import LabelledIntervals
from genomics.kmers import base_codes, kmer_counts
from genomics.leaks import places_of
from seqmamba.metrics import Estimate, confusion_metrics, percentile_interval

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

SHORTCUTS = {
    "length": "sequence length",
    "gc": "GC content",
    "ambiguity": "the share of N",
    "grid": "the last digit of start and end",
    "chromosome": "the chromosome",
}
"""Facts about a sequence that should not give its label away, with their names in words."""

FOLDS = 5
_ENOUGH = 5  # training sequences of one value, from which it has a row of its own in the table
_RANGES = 24
_RESAMPLES = 1000
_CATEGORIES = ("grid", "chromosome")


@dataclass(frozen=True)
class Shortcut:
    """What a lookup table on one fact reaches.

    Args:
        skill: MCC (the mean over labels for multi-label), or Pearson's r for regression (the mean over
            targets), with its 95 % interval; NaN where it does not exist.
        accuracy: Share of right answers; None for regression.
        majority: Share of right answers of whoever always says what is most common in training.
        tested_on: Number of sequences that were tested.
        cross_validated: Whether the sequences took turns, for want of a test part.
    """

    skill: Estimate
    accuracy: float | None
    majority: float | None
    tested_on: int
    cross_validated: bool


def measure_shortcuts(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray | None = None
) -> dict[str, Shortcut]:
    """Measure every fact that is known of these sequences.

    Args:
        records: The data set; of intervals without sequences, their length and place.
        assignment: Part of each sequence, str (n,); trained on train and validation, tested on test.

    Returns:
        The results by name of the fact (see `SHORTCUTS`); empty for fewer than ten sequences.
    """
    folds = list(_folds(len(records), assignment))
    if not folds:
        return {}
    labels = np.asarray(records.labels)
    crossed = len(folds) > 1
    return {
        fact: _measure(values, fact in _CATEGORIES, labels, records, folds, crossed)
        for fact, values in _facts(records).items()
    }


def _facts(records: LabelledSequences | LabelledIntervals) -> dict[str, np.ndarray]:
    """Return the value of each fact for each sequence."""
    facts: dict[str, np.ndarray] = {}
    places = places_of(records)
    if isinstance(records, LabelledIntervals):
        facts["length"] = records.places.end - records.places.start
    else:
        codes, offsets = base_codes(records.tokens)
        lengths = np.diff(offsets)
        bases = kmer_counts(codes, offsets, 1, canonical=False).astype(np.float64)
        known = bases.sum(1)
        facts["length"] = lengths
        facts["gc"] = bases[:, 1:3].sum(1) / np.maximum(known, 1)
        facts["ambiguity"] = 1 - known / np.maximum(lengths, 1)
    if places is not None:
        facts["grid"] = places.start % 10 * 10 + places.end % 10
        facts["chromosome"] = places.chrom
    return facts


def _folds(
    n: int, assignment: np.ndarray | None
) -> Iterator[tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]]:
    """Yield pairs of training and tested sequences."""
    if assignment is not None:
        train = np.flatnonzero(np.isin(assignment, ("train", "validation")))
        test = np.flatnonzero(assignment == "test")
        if len(train) and len(test):
            yield train, test
            return
    if n < 2 * FOLDS:
        return
    turn = np.random.default_rng(0).permutation(n) % FOLDS
    for fold in range(FOLDS):
        yield np.flatnonzero(turn != fold), np.flatnonzero(turn == fold)


def _measure(
    values: np.ndarray,
    is_category: bool,
    labels: np.ndarray,
    records: LabelledSequences | LabelledIntervals,
    folds: list[tuple[np.ndarray, np.ndarray]],
    crossed: bool,
) -> Shortcut:
    """Score a lookup table on one fact, over all folds."""
    tested = np.concatenate([test for _, test in folds])
    cells = [_cells(values, train, is_category) for train, _ in folds]
    if records.task == "regression":
        predicted = np.concatenate(
            [_cell_means(cell, labels, *fold) for cell, fold in zip(cells, folds, strict=True)]
        )
        skill = _correlation(predicted, labels[tested].reshape(len(tested), -1))
        return Shortcut(skill, None, None, len(tested), crossed)
    columns = [labels] if records.task == "classification" else list((labels > 0.5).astype(np.int64).T)
    k = len(records.classes) if records.task == "classification" else 2
    scores = []
    for column in columns:
        answers = [_answers(cell, column, k, *fold) for cell, fold in zip(cells, folds, strict=True)]
        decided, constant = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        scores.append(_score(column[tested], decided, constant, k))
    mean = [float(np.mean(numbers)) for numbers in zip(*scores, strict=True)]
    return Shortcut(Estimate(*mean[:3]), mean[3], mean[4], len(tested), crossed)


def _cells(values: np.ndarray, train: np.ndarray, is_category: bool) -> Int64[np.ndarray, " n"]:
    """Number the rows of the lookup table: common values by themselves, the others by range."""
    distinct, times = np.unique(values[train], return_counts=True)
    common = distinct[times >= _ENOUGH]
    edges = np.empty(0) if is_category else np.quantile(values[train], np.arange(1, _RANGES) / _RANGES)
    cell = len(common) + np.searchsorted(np.unique(edges), values, side="right")
    if len(common):
        at = np.minimum(np.searchsorted(common, values), len(common) - 1)
        cell = np.where(common[at] == values, at, cell)
    return cell.astype(np.int64)


def _answers(
    cell: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], k: int, train: np.ndarray, test: np.ndarray
) -> tuple[Int64[np.ndarray, " test"], Int64[np.ndarray, " test"]]:
    """Return the table's answers for the test sequences, and the answer that is most common in training."""
    counts = np.bincount(cell[train] * k + labels[train], minlength=(cell.max() + 1) * k).reshape(-1, k)
    shares = counts.sum(0) / len(train)
    # An empty row, or a tie, says what is most common.
    decided = (counts + shares).argmax(1)
    return decided[cell[test]], np.full(len(test), shares.argmax())


def _score(
    truth: Int[np.ndarray, " n"], decided: Int[np.ndarray, " n"], constant: Int[np.ndarray, " n"], k: int
) -> tuple[float, float, float, float, float]:
    """Return MCC with its bootstrap interval, accuracy, and the accuracy of the constant answer."""
    confusion = np.bincount(truth * k + decided, minlength=k * k).astype(np.float64)
    # Resampling sequences resamples the cells of their table.
    drawn = np.random.default_rng(0).multinomial(len(truth), confusion / len(truth), _RESAMPLES)
    tables = np.concatenate([confusion[None], drawn]).reshape(-1, k, k).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mcc = confusion_metrics(tables)["mcc"]
    return (
        float(mcc[0]),
        *percentile_interval([mcc[1:]]),
        float((truth == decided).mean()),
        float((truth == constant).mean()),
    )


def _cell_means(
    cell: Int[np.ndarray, " n"], targets: Float[np.ndarray, "n k"], train: np.ndarray, test: np.ndarray
) -> Float[np.ndarray, "test k"]:
    """Predict the mean target of the same row of the table."""
    size = int(cell.max()) + 1
    counts = np.bincount(cell[train], minlength=size)[:, None]
    wanted = targets.reshape(len(targets), -1)
    overall = wanted[train].mean(0)
    sums = np.stack([np.bincount(cell[train], row[train], minlength=size) for row in wanted.T], axis=1)
    # One imagined sequence of the overall mean fills empty rows and tames those of one sequence.
    predicted: np.ndarray = (sums + overall) / (counts + 1)
    return predicted[cell[test]]


def _correlation(predicted: Float[np.ndarray, "n k"], truth: Float[np.ndarray, "n k"]) -> Estimate:
    """Return Pearson's r, the mean over targets, with the interval of Fisher's transformation."""
    varies: Bool[np.ndarray, " k"] = (predicted.std(0) > 0) & (truth.std(0) > 0)
    if len(truth) < 4 or not varies.any():
        return Estimate(float("nan"), float("nan"), float("nan"))
    r = np.array([np.corrcoef(predicted[:, i], truth[:, i])[0, 1] for i in np.flatnonzero(varies)]).mean()
    z, margin = np.arctanh(np.clip(r, -0.999999, 0.999999)), 1.96 / np.sqrt(len(truth) - 3)
    return Estimate(float(r), float(np.tanh(z - margin)), float(np.tanh(z + margin)))
