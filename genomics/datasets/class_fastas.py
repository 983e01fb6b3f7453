"""Layout 1: one FASTA file, or several, for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from genomics.datasets.records import (
    LabelledSequences,
    TokenStore,
    check_classes,
    header_intervals,
    unique_names,
)
from genomics.fasta import FastaRecord, read_fasta
from seqmamba.errors import UserError
from seqmamba.paths import expand

PathOrPaths = str | Path | Sequence[str | Path]


def from_class_fastas(files: Mapping[str, PathOrPaths]) -> LabelledSequences:
    """Read a classification data set that keeps each class in files of its own.

    A name may come in several files, as numbered sequences do; it is then prefixed with its class.

    Args:
        files: Class name to FASTA path or paths. The order of the mapping is the order of the classes: with
            two, the second is the positive one.

    Returns:
        The records, class after class.

    Raises:
        UserError: With file and line, for anything wrong in a file; for a file given twice, fewer than two
            classes, or a class of fewer than three sequences.
    """
    records: list[FastaRecord] = []
    labels: list[int] = []
    sources: list[str] = []
    used: dict[Path, str] = {}
    for number, (name, paths) in enumerate(files.items()):
        for path in as_paths(paths):
            real = path.resolve()
            if real in used:
                raise UserError(f"{path}: given twice, for {used[real]!r} and for {name!r}")
            used[real] = name
            for record in read_fasta(path):
                records.append(record)
                labels.append(number)
                sources.append(f"{path}:{record.line}")
    classes = tuple(files)
    label_array = np.array(labels, dtype=np.int64)
    check_classes(label_array, classes, sources)
    tokens = TokenStore.from_letters([record.sequence for record in records])
    intervals, notes = header_intervals([record.header for record in records], tokens.lengths)
    return LabelledSequences(
        names=_names(records, labels, classes, sources),
        tokens=tokens,
        labels=label_array,
        classes=classes,
        task="classification",
        intervals=intervals,
        sources=sources,
        notes=notes,
    )


def as_paths(paths: PathOrPaths) -> list[Path]:
    """Return one path or several as a list of expanded paths."""
    return [expand(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def _names(
    records: list[FastaRecord], labels: list[int], classes: tuple[str, ...], sources: list[str]
) -> list[str]:
    by_class = unique_names([record.name for record in records], (classes[label] for label in labels))
    return unique_names(by_class, sources)
