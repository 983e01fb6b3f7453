"""From the words in a label column to numbers, and what kind of task they make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genomics.datasets.records import Task, check_classes
from genomics.numbers import finite_number
from seqmamba.errors import UserError

_MOST_NUMERIC_CLASSES = 20
_LARGEST = float(np.finfo(np.float32).max)
MISSING = {"", "na", "nan", "null", "none"}


def class_numbers(words: Sequence[str], sources: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the classes that occur.

    Args:
        words: One class name a record.
        sources: ``file:line`` of every record.

    Returns:
        (n,) int64 class numbers, and the names: sorted as numbers if all of them are numbers, else as text.

    Raises:
        UserError: If there is one class only or one is too small.
    """
    names = set(words)
    classes = tuple(sorted(names, key=float) if all(map(is_number, names)) else sorted(names))
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number[word] for word in words], dtype=np.int64)
    check_classes(labels, classes, sources)
    return labels, classes


def guess_task(columns: Sequence[Sequence[str]]) -> Task:
    """Guess what the label columns mean.

    One column of numbers with a fraction, or of many different numbers, is a regression target; any other one
    column holds class names, unless some cells join several with ``;``. Several columns of zeros and ones are
    multilabel, anything else is regression targets.

    Args:
        columns: The cells of every label column.
    """
    if len(columns) > 1:
        return "multilabel" if all(set(column) <= {"0", "1"} for column in columns) else "regression"
    cells = set(columns[0])
    if any(";" in cell for cell in cells):
        return "multilabel"
    numeric = all(map(is_number, cells))
    whole = numeric and all(float(cell).is_integer() for cell in cells)
    few = len(cells) <= _MOST_NUMERIC_CLASSES
    return "regression" if numeric and not (whole and few) else "classification"


def multilabel_matrix(
    columns: Sequence[Sequence[str]], names: Sequence[str], sources: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read one 0/1 column a class, or one column of class names joined with ``;``.

    Returns:
        (n, k) float32 of zeros and ones, and the class names.

    Raises:
        UserError: With file and line, for a cell that is neither 0 nor 1, or a class without both.
    """
    if len(columns) == 1 and not set(columns[0]) <= {"0", "1"}:
        sets = [{part.strip() for part in cell.split(";")} - {"", "-"} for cell in columns[0]]
        classes = tuple(sorted(set().union(*sets)))
        matrix = np.array([[name in members for name in classes] for members in sets], dtype=np.float32)
    else:
        classes = tuple(names)
        for column, name in zip(columns, names, strict=True):
            for cell, source in zip(column, sources, strict=True):
                if cell not in ("0", "1"):
                    raise UserError(f"{source}: column {name!r}: expected 0 or 1, got {cell!r}")
        matrix = np.array(columns, dtype=np.float32).T.copy()
    matrix = matrix.reshape(len(sources), len(classes))
    for name, positives in zip(classes, matrix.sum(axis=0).tolist(), strict=True):
        if not 0 < positives < len(matrix):
            which = "no sequence" if positives == 0 else "every sequence"
            raise UserError(
                f"{sources[0].rsplit(':', 1)[0]}: {which} has the label {name!r}", hint="remove that label"
            )
    return matrix, classes


def regression_matrix(
    columns: Sequence[Sequence[str]], names: Sequence[str], sources: Sequence[str]
) -> np.ndarray:
    """Read one column of numbers a target.

    Returns:
        (n, k) float32.

    Raises:
        UserError: With file and line, for a cell that is not a finite number, or a target that never varies.
    """
    for column, name in zip(columns, names, strict=True):
        for cell, source in zip(column, sources, strict=True):
            value = finite_number(cell)
            if value is None or abs(value) > _LARGEST:
                raise UserError(f"{source}: column {name!r}: expected a finite number, got {cell!r}")
        if len({float(cell) for cell in column}) < 2:
            raise UserError(
                f"{sources[0]}: column {name!r} has the same value in every row", hint="remove it"
            )
    return np.array(columns, dtype=np.float64).T.astype(np.float32)


def is_number(text: str) -> bool:
    """Say whether a cell holds a finite number."""
    return finite_number(text) is not None
