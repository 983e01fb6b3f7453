"""Layout 3: BED intervals and the genome that they lie on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genomics.alphabet import TokenArray
from genomics.datasets.class_fastas import PathOrPaths, as_paths
from genomics.datasets.labels import class_numbers
from genomics.datasets.negatives import matched_negatives
from genomics.datasets.records import (
    SMALLEST_CLASS,
    LabelledSequences,
    TokenStore,
    check_classes,
    unique_names,
)
from genomics.fasta import Fasta
from genomics.intervals import BedRow, Interval, read_bed
from seqmamba.errors import UserError

NEGATIVE = "background"
POSITIVE = "positive"
_MOST_CLASSES = 100


def from_bed(
    beds: PathOrPaths | Mapping[str, PathOrPaths], genome: str | Path, seed: int = 0
) -> LabelledSequences:
    """Read a classification data set from intervals on a genome.

    Repeated intervals of a class are read once. Column 4 names the class if its values repeat; one BED file
    a class is given as a mapping. With a single class, as many background windows are drawn from the genome
    (see `matched_negatives`); they become class 0. Intervals on the minus strand are read as the reverse
    complement.

    Args:
        beds: BED file or files, or class name to file or files.
        genome: FASTA file of the genome. Chromosome names may differ from the BED's by ``chr``.
        seed: Seed of the background windows.

    Returns:
        The records, with their intervals under the genome's chromosome names.

    Raises:
        UserError: With file and line, for a row that is not BED, an unknown chromosome, coordinates past its
            end, or a class that is too small.
    """
    fasta = Fasta(genome)
    rows, words, sources = _read(beds)
    intervals = [fasta.place(row.interval, source) for row, source in zip(rows, sources, strict=True)]
    kept = _first_of_each(intervals, words)
    notes: tuple[str, ...] = ()
    if len(kept) < len(intervals):  # peak callers repeat a region for each of its summits
        notes = (f"left out {len(intervals) - len(kept)} rows that repeat an interval of the same class",)
        intervals = [intervals[i] for i in kept]
        words = [words[i] for i in kept]
        sources = [sources[i] for i in kept]
    if len(set(words)) == 1:
        intervals, labels, classes, sources, drawn = _with_background(
            intervals, words[0], sources, fasta, seed
        )
        notes = (*notes, drawn)
    elif isinstance(beds, Mapping):
        classes = tuple(beds)
        labels = np.array([classes.index(word) for word in words], dtype=np.int64)
        check_classes(labels, classes, sources)
    else:
        labels, classes = class_numbers(words, sources)
    names = unique_names(
        [str(interval) for interval in intervals], (classes[label] for label in labels.tolist())
    )
    return LabelledSequences(
        names=unique_names(names, sources),
        tokens=TokenStore.from_arrays(_fetch_all(fasta, intervals)),
        labels=labels,
        classes=classes,
        task="classification",
        intervals=intervals,
        sources=sources,
        notes=notes,
    )


def _read(beds: PathOrPaths | Mapping[str, PathOrPaths]) -> tuple[list[BedRow], list[str], list[str]]:
    """Return all rows, the class of each, and where each stands."""
    rows: list[BedRow] = []
    words: list[str] = []
    sources: list[str] = []
    for word, paths in beds.items() if isinstance(beds, Mapping) else [(None, beds)]:
        for path in as_paths(paths):
            for row in read_bed(path):
                rows.append(row)
                words.append(word or "")
                sources.append(f"{path}:{row.line}")
    if isinstance(beds, Mapping):
        return rows, words, sources
    return rows, classes_of_column_4(rows, sources), sources


def classes_of_column_4(rows: list[BedRow], sources: list[str]) -> list[str]:
    """Read column 4 as classes if its values repeat, as peak names if nearly all of them differ.

    Args:
        rows: All rows.
        sources: ``file:line`` of each.

    Returns:
        The class of each row, `POSITIVE` throughout where column 4 names none.

    Raises:
        UserError: If only some rows have a class.
    """
    named = [row.name for row in rows]
    distinct = Counter(name for name in named if name not in (None, "."))
    if not distinct or (len(distinct) > 1 and len(distinct) > len(rows) / 2) or len(distinct) > _MOST_CLASSES:
        return [POSITIVE] * len(rows)
    for name, source in zip(named, sources, strict=True):
        if name in (None, "."):
            raise UserError(
                f"{source}: column 4 (the class) is missing, but other rows have one",
                hint="give every row a class in column 4, or none of them",
            )
    return [str(name) for name in named]


def _first_of_each(intervals: list[Interval], words: list[str]) -> list[int]:
    """Return the places of the intervals that did not come before in the same class."""
    first: dict[tuple[Interval, str], int] = {}
    for place, key in enumerate(zip(intervals, words, strict=True)):
        first.setdefault(key, place)
    return list(first.values())


def _with_background(
    positives: list[Interval], word: str, sources: list[str], fasta: Fasta, seed: int
) -> tuple[list[Interval], np.ndarray, tuple[str, ...], list[str], str]:
    if len(positives) < SMALLEST_CLASS:
        raise UserError(f"{sources[0]}: expected at least {SMALLEST_CLASS} intervals, got {len(positives)}")
    negatives, difference = matched_negatives(positives, fasta, seed)
    labels = np.repeat(np.array([1, 0], dtype=np.int64), len(positives))
    note = (
        f"drew {len(negatives)} background windows from {fasta.path.name}, matched in length and chromosome "
        f"and in GC content to {100 * difference:.1f} percentage points on average"
    )
    drawn = [f"{fasta.path}:{negative}" for negative in negatives]
    return [*positives, *negatives], labels, (NEGATIVE, word or POSITIVE), [*sources, *drawn], note


def _fetch_all(fasta: Fasta, intervals: list[Interval]) -> list[TokenArray]:
    return [fasta.fetch(i.chrom, i.start, i.end, i.strand) for i in intervals]
