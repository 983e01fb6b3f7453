"""From the labels that files come with to the numbers that a model learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from seqmamba.errors import UserError

LabelTask = Literal["classification", "multilabel", "regression"]


@dataclass(frozen=True)
class Targets:
    """What is to be predicted.

    Attributes:
        task: What the labels mean.
        classes: Class names in alphabetical order, or names of the targets.
        values: Class numbers (n,) int64, or 0/1 labels or targets (n, k) float32.
    """

    task: LabelTask
    classes: tuple[str, ...]
    values: Shaped[np.ndarray, n * k]


def read_targets(
    labels: Sequence[Sequence[str]],
    task: Literal["auto", "classification", "multilabel", "regression"],
    known: Sequence[str] = (),
) -> Targets:
    """Turn labels into numbers.

    Args:
        labels: Labels of each recording.
        task: What they mean; ``auto`` is ``classification`` where every recording has one label, else
            ``multilabel``.

        known: The classes, in their order; those that the labels name if empty.

    Raises:
        UserError: If they do not fit the task, name a class that is not known, or there is nothing to tell
            apart.
    """
    if not any(labels):
        raise no_labels()
    if task == "auto":
        task = "classification" if all(len(row) == 1 for row in labels) else "multilabel"
    if task == "regression":
        return _numbers(labels)
    named = {label for row in labels for label in row}
    unknown = sorted(named - set(known)) if known else []
    if unknown:
        raise UserError(f"labels: {unknown[0]} is no class; there are {', '.join(known)}")
    classes = tuple(known) or tuple(sorted(named))
    numbers = {name: number for number, name in enumerate(classes)}
    if task == "multilabel":
        values = np.zeros((len(labels), len(classes)), dtype=np.float32)
        for row, names in enumerate(labels):
            values[row, [numbers[name] for name in names]] = 1
        return Targets(task, classes, values)
    wrong = next((row for row, names in enumerate(labels) if len(names) != 1), None)
    if wrong is not None:
        raise UserError(
            f"classification: recording {wrong + 1:,} has {len(labels[wrong])} labels, expected one",
            hint="use the task multilabel",
        )
    if len(classes) < 2:
        raise UserError(f"classification: expected two classes or more, got {classes[0]} only")
    return Targets(task, classes, np.array([numbers[names[0]] for names in labels], dtype=np.int64))


def no_labels() -> UserError:
    """Return what to raise where labels are needed and there are none."""
    return UserError(
        "the recordings have no labels",
        hint="put them into a folder for each class, write a table with a label for each, or say where "
        "their names have it (--pattern)",
    )


def _numbers(labels: Sequence[Sequence[str]]) -> Targets:
    width = len(labels[0])
    values = np.empty((len(labels), width), dtype=np.float32)
    for row, words in enumerate(labels):
        try:
            found = [float(word) for word in words]
        except ValueError:
            found = [math.nan]
        if len(found) != width or not all(map(math.isfinite, found)):
            raise UserError(
                f"regression: recording {row + 1:,} has {', '.join(words) or 'no value'}, "
                f"expected {width} numbers"
            )
        values[row] = found
    names = ("value",) if width == 1 else tuple(f"value{number}" for number in range(1, width + 1))
    return Targets("regression", names, values)
