"""A FASTA file that carries its labels in the headers: ``>name|label`` or ``>name|label|split``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genomics.datasets.class_fastas import PathOrPaths, as_paths
from genomics.datasets.labels import class_numbers
from genomics.datasets.records import (
    PART_NAMES,
    LabelledSequences,
    TokenStore,
    header_intervals,
    normalise_part,
    unique_names,
)
from genomics.fasta import FastaRecord, read_fasta
from seqmamba.errors import UserError

_NO_PART = {"", "none", "na", "."}


def from_headers(paths: PathOrPaths) -> LabelledSequences:
    """Read a classification data set whose headers read ``name|label`` or ``name|label|split``.

    The last field is the split if every record has at least three fields and the last is always the name of
    a part (train, validation, test and their usual spellings) or ``none``; otherwise it is the label. Fields
    before the label belong to the name.

    Args:
        paths: One FASTA file or several, read as one data set.

    Returns:
        The records. Classes are sorted: as numbers if all of them are, else as text.

    Raises:
        UserError: With file and line, for a header without a label, a split that only some records have, a
            class that is too small, or anything wrong in a file.
    """
    records: list[FastaRecord] = []
    sources: list[str] = []
    for path in as_paths(paths):
        for record in read_fasta(path):
            records.append(record)
            sources.append(f"{path}:{record.line}")
    fields = [record.header.split("|") for record in records]
    has_split = all(len(row) > 2 and _is_part(row[-1]) for row in fields)
    label_column = -2 if has_split else -1
    for row, source in zip(fields, sources, strict=True):
        if len(row) < 2 or not row[label_column].strip() or not row[0].strip():
            raise UserError(
                f"{source}: expected '>name|label' or '>name|label|split', got {'|'.join(row)!r}",
                hint="give labels in a table (--labels), or one FASTA file for each class",
            )
    labels, classes = class_numbers([row[label_column].strip() for row in fields], sources)
    names = unique_names(["|".join(row[:label_column]).split()[0] for row in fields], sources)
    tokens = TokenStore.from_letters([record.sequence for record in records])
    intervals, notes = header_intervals(["|".join(row[:label_column]) for row in fields], tokens.lengths)
    return LabelledSequences(
        names=names,
        tokens=tokens,
        labels=labels,
        classes=classes,
        task="classification",
        intervals=intervals,
        split=_parts([row[-1] for row in fields], sources) if has_split else None,
        sources=sources,
        notes=notes,
    )


def _is_part(text: str) -> bool:
    return text.strip().lower() in PART_NAMES or text.strip().lower() in _NO_PART


def _parts(texts: Sequence[str], sources: Sequence[str]) -> np.ndarray | None:
    without = [i for i, text in enumerate(texts) if text.strip().lower() in _NO_PART]
    if len(without) == len(texts):
        return None
    if without:
        raise UserError(
            f"{sources[without[0]]}: has no split, but other records have one",
            hint="give every record train, validation or test, or none of them",
        )
    return np.array([normalise_part(text, source) for text, source in zip(texts, sources, strict=True)])
