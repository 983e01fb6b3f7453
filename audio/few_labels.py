"""Training on few of the labels, as if nobody had listened to the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from seqmamba.errors import UserError
from seqmamba.nn.options import is_number, require, require_whole


@dataclass(frozen=True)
class LabelConfig:
    """How many labels of the training part are used; validation and test keep all of theirs.

    Args:
        per_class: Recordings of each class (multi-label: with each label); 0 takes all.
        share: Share of the recordings, of each class alike where they have one; 1 takes all.
        seed: Which ones: the same recordings, numbers and seed always give the same ones. A smaller number
            of the same seed gives some of those of a larger one, for classes and regression.

    Raises:
        UserError: If a value is out of range, or both a number and a share are given.
    """

    per_class: int = 0
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_whole("labels.per_class", self.per_class, 0)
        good = is_number(self.share) and 0 < self.share <= 1
        require(good, "labels.share", "a number above 0, 1 at most", self.share)
        require_whole("labels.seed", self.seed, 0)
        if self.per_class and self.share != 1:
            raise UserError("labels: expected per_class or share, got both")


def keep_labels(
    assignment: np.ndarray,
    labels: Shaped[np.ndarray, "n *k"],  # noqa: UP037  dimensions, no type
    names: Sequence[str],
    config: LabelConfig,
) -> tuple[np.ndarray, str | None]:
    """Leave recordings out of the training part.

    Args:
        assignment: The part of each recording.
        labels: Class numbers (n,), or labels or targets (n, k).
        names: Of the classes.
        config: How many to keep.

    Returns:
        The new assignment, empty where a recording is left out, and a sentence about it; None where nothing
        was asked for.

    Raises:
        UserError: If a class has fewer than asked for, or a number of each class is asked for and there are
            none.
    """
    if not config.per_class and config.share == 1:
        return assignment, None
    training = np.flatnonzero(assignment == "train")
    order = training[np.random.default_rng(config.seed).permutation(len(training))]
    classes = labels.ndim == 1 and labels.dtype.kind == "i"
    if config.per_class:
        kept = _of_each(order, labels, names, config.per_class)
    else:
        kept = _share(order, labels if classes else np.zeros(len(labels), np.int64), config.share)
    chosen = assignment.copy()
    chosen[np.setdiff1d(training, kept)] = ""
    asked = f"{config.per_class} a class" if config.per_class else f"{config.share:g} of them"
    said = f"labels: {asked}, {len(kept):,} of {len(training):,} training recordings, seed {config.seed}"
    return chosen, said


def _of_each(order: np.ndarray, labels: np.ndarray, names: Sequence[str], count: int) -> np.ndarray:
    """Take the first so many of each class; with several labels each, until every label has enough."""
    if labels.dtype.kind != "i" and not np.isin(labels, (0, 1)).all():
        raise UserError("labels.per_class: regression has no classes", hint="set labels.share")
    columns = np.eye(len(names), dtype=bool)[labels] if labels.ndim == 1 else labels > 0
    have = columns[order].sum(axis=0)
    scarce = int(have.argmin())
    if have[scarce] < count:
        raise UserError(
            f"labels.per_class: expected at most {have[scarce]}, which is all that {names[scarce]} has in "
            f"training, got {count}"
        )
    found, taken = np.zeros(columns.shape[1], np.int64), []
    for place in order:
        if (columns[place] & (found < count)).any():
            found += columns[place]
            taken.append(place)
    return np.array(taken)


def _share(order: np.ndarray, strata: np.ndarray, share: float) -> np.ndarray:
    """Take the first of each stratum, at least one of each."""
    taken = [order[strata[order] == value] for value in np.unique(strata[order])]
    return np.concatenate([places[: max(1, round(share * len(places)))] for places in taken])
