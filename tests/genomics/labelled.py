"""Small labelled data sets for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genomics.alphabet import encode
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.intervals import Interval


def random_dna(rng: np.random.Generator, length: int, gc: float = 0.5) -> str:
    return "".join(rng.choice(list("ACGT"), length, p=[(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]))


def mutate(rng: np.random.Generator, sequence: str, changes: int) -> str:
    letters = list(sequence)
    for position in rng.choice(len(letters), changes, replace=False):
        letters[position] = rng.choice([base for base in "ACGT" if base != letters[position]])
    return "".join(letters)


def reverse_complement(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def make_records(
    sequences: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    *,
    task: str = "classification",
    classes: tuple[str, ...] = ("neg", "pos"),
    intervals: Sequence[Interval] | None = None,
    split: Sequence[str] | None = None,
) -> LabelledSequences:
    return LabelledSequences(
        names=[f"seq{i}" for i in range(len(sequences))],
        tokens=TokenStore.from_arrays([encode(sequence) for sequence in sequences]),
        labels=np.asarray(labels),
        classes=classes,
        task=task,  # type: ignore[arg-type]
        intervals=None if intervals is None else list(intervals),
        split=None if split is None else np.array(split),
        sources=[f"test.fa:{2 * i + 1}" for i in range(len(sequences))],
    )
