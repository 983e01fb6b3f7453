"""The table of predictions: ``predictions.tsv`` of a run and what the ``predict`` verbs write.

One row a sequence, tab-separated, with a header. The first four columns are ``name``, ``split``, ``label``
and ``prediction``; then, for classification and multi-label tasks, one column of probabilities per class in
the order of the classes. Several labels (multi-label classes, or regression targets) stand in one cell,
separated by ``;``. An unknown label is an empty cell; a multi-label sequence without any class is ``-``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from jaxtyping import Float

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError

FILE_NAME = "predictions.tsv"
FIXED_COLUMNS = ("name", "split", "label", "prediction")
SEPARATOR = ";"
NO_CLASS = "-"
THRESHOLD = 0.5


@dataclass(frozen=True)
class Predictions:
    """Labels and model outputs of some sequences.

    Attributes:
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Class names, or target names for regression.
        names: Sequence names.
        splits: ``train``, ``validation``, ``test`` or empty, one a sequence.
        labels: (n,) int64 class indices for classification, -1 where unknown; (n, k) float for the other
            tasks, NaN where unknown.
        outputs: (n, k) probabilities, or predicted values for regression.
    """

    task: str
    classes: tuple[str, ...]
    names: list[str]
    splits: list[str]
    labels: np.ndarray
    outputs: Float[np.ndarray, "n k"]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, split: str) -> Predictions:
        """Return the sequences of one part, for example ``test``."""
        keep = np.flatnonzero(np.asarray(self.splits, dtype=str) == split)
        return Predictions(
            task=self.task,
            classes=self.classes,
            names=[self.names[i] for i in keep],
            splits=[self.splits[i] for i in keep],
            labels=self.labels[keep],
            outputs=self.outputs[keep],
        )

    @classmethod
    def mean(cls, tables: Sequence[Predictions]) -> Predictions:
        """Return the first of several tables of the same items, with the mean of the outputs of all."""
        return replace(tables[0], outputs=np.mean([table.outputs for table in tables], axis=0))

    def save(self, path: str | Path) -> Path:
        """Write the table, whole or not at all.

        Args:
            path: The file to write, usually ``RUN/predictions.tsv``.

        Returns:
            The path written.
        """
        target = Path(path)
        with atomic_path(target) as partial, partial.open("w", encoding="utf-8", newline="") as handle:
            self.write_header(handle)
            self.write_rows(handle)
        return target

    def write_header(self, handle: TextIO) -> None:
        """Write the line of column names."""
        header = [*FIXED_COLUMNS, *(() if self.task == "regression" else self.classes)]
        handle.write("\t".join(map(_cell, header)) + "\n")

    def write_rows(self, handle: TextIO) -> None:
        """Write a line a sequence; tables too large for memory are written in pieces."""
        for i in range(len(self)):
            handle.write("\t".join(self._row(i)) + "\n")

    def _row(self, i: int) -> list[str]:
        outputs = self.outputs[i]
        if self.task == "regression":
            label = SEPARATOR.join("" if np.isnan(v) else f"{v:.6g}" for v in np.atleast_1d(self.labels[i]))
            words = [label, SEPARATOR.join(f"{v:.6g}" for v in outputs)]
        elif self.task == "multilabel":
            unknown = np.isnan(self.labels[i]).any()
            words = ["" if unknown else self._join(self.labels[i]), self._join(outputs)]
        else:
            label_index = int(self.labels[i])
            words = [
                "" if label_index < 0 else self.classes[label_index],
                self.classes[int(outputs.argmax())],
            ]
        probabilities = [] if self.task == "regression" else [f"{p:.6f}" for p in outputs]
        return [*map(_cell, (self.names[i], self.splits[i], *words)), *probabilities]

    def _join(self, scores: np.ndarray) -> str:
        return SEPARATOR.join(classes_above(self.classes, scores)) or NO_CLASS

    @classmethod
    def load(cls, path: str | Path, task: str, classes: tuple[str, ...]) -> Predictions:
        """Read what `save` wrote.

        Args:
            path: A ``predictions.tsv``.
            task: Task of the run, which decides how labels are written.
            classes: Class or target names of the run.

        Returns:
            The table.

        Raises:
            UserError: The file is missing, or a line does not have the expected columns, labels or numbers.
        """
        source = Path(path)
        width = len(FIXED_COLUMNS) + (0 if task == "regression" else len(classes))
        names, splits, labels, outputs = [], [], [], []
        try:
            with source.open(encoding="utf-8", newline="") as handle:
                rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
                for number, row in enumerate(rows, start=1):
                    if len(row) != width:
                        raise UserError(f"{source}:{number}: expected {width} columns, got {len(row)}")
                    if number == 1:
                        continue
                    names.append(row[0])
                    splits.append(row[1])
                    try:
                        label, output = _parse(row, task, classes)
                    except (ValueError, KeyError) as error:
                        raise UserError(f"{source}:{number}: expected a prediction, got {error}") from None
                    labels.append(label)
                    outputs.append(output)
        except FileNotFoundError:
            raise UserError(f"{source}: no such file") from None
        shape = (len(names),) if task == "classification" else (len(names), len(classes))
        kind = np.int64 if task == "classification" else np.float64
        return cls(
            task=task,
            classes=classes,
            names=names,
            splits=splits,
            labels=np.asarray(labels, dtype=kind).reshape(shape),
            outputs=np.asarray(outputs, dtype=np.float64).reshape(len(names), len(classes)),
        )


def classes_above(classes: Sequence[str], scores: Float[np.ndarray, " k"]) -> list[str]:
    """Return the classes that a multi-label model, or a row of labels, says are there.

    Args:
        classes: Their names.
        scores: A probability, or 0 or 1, each.
    """
    return [name for name, score in zip(classes, scores, strict=True) if score > THRESHOLD]


def _parse(row: list[str], task: str, classes: tuple[str, ...]) -> tuple[int | list[float], list[float]]:
    label, prediction = row[2], row[3]
    if task == "regression":
        return _numbers(label, len(classes)), _numbers(prediction, len(classes))
    index = {_cell(name): i for i, name in enumerate(classes)}
    probabilities = [float(text) for text in row[len(FIXED_COLUMNS) :]]
    if task == "classification":
        return (index[label] if label else -1), probabilities
    if not label:
        return [float("nan")] * len(classes), probabilities
    positive = set() if label == NO_CLASS else {index[name] for name in label.split(SEPARATOR)}
    return [float(i in positive) for i in range(len(classes))], probabilities


def _numbers(text: str, count: int) -> list[float]:
    values = [float(part) if part else float("nan") for part in text.split(SEPARATOR)]
    if not text:
        return [float("nan")] * count
    if len(values) != count:
        raise ValueError(f"{len(values)} values for {count} targets")
    return values


def _cell(text: str) -> str:
    """Keep one cell in one cell: no tab and no line break."""
    return " ".join(text.split()) if any(c in text for c in "\t\r\n") else text
