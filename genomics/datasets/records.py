"""Labelled sequences in memory: one flat token array, labels, and where every record came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from genomics.alphabet import TokenArray, encode
from genomics.intervals import Interval, parse_header
from seqmamba.errors import UserError

Task = Literal["classification", "multilabel", "regression"]
TASKS: tuple[str, ...] = get_args(Task)
SMALLEST_CLASS = 3
"""Training, validation and test need one sequence of a class each."""


class TokenStore(Sequence[TokenArray]):
    """Token sequences of any lengths in one flat array: 1 byte a base, shared with forked workers.

    Args:
        flat: uint8 ids of all sequences, one after the other, shape (total,).
        starts: int64 position of every sequence's first token, shape (n,).
        lengths: int64 number of tokens of every sequence, shape (n,).
    """

    def __init__(
        self, flat: TokenArray, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> None:
        self.flat = flat
        self.starts = starts
        self.lengths = lengths

    @classmethod
    def from_arrays(cls, arrays: Sequence[TokenArray]) -> TokenStore:
        """Copy token arrays into a store."""
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        flat = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.uint8)
        return cls(flat, np.cumsum(lengths) - lengths, lengths)

    @classmethod
    def from_letters(cls, sequences: Sequence[bytes]) -> TokenStore:
        """Encode sequences, all in one table lookup.

        Raises:
            UserError: At a letter that is no DNA.
        """
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        return cls(encode(b"".join(sequences)), np.cumsum(lengths) - lengths, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> TokenArray:  # type: ignore[override]  # no slices: `select` takes many
        start = self.starts[index]
        return self.flat[start : start + self.lengths[index]]

    def __iter__(self) -> Iterator[TokenArray]:
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            yield self.flat[start : start + length]

    def select(self, indices: npt.ArrayLike) -> TokenStore:
        """Return some of the sequences, in the given order, without copying tokens."""
        chosen = np.asarray(indices)
        return TokenStore(self.flat, self.starts[chosen], self.lengths[chosen])

    def padded(self, indices: npt.NDArray[np.integer], fill: int) -> TokenArray:
        """Copy some sequences into rows of one length.

        Args:
            indices: Which, at least one.
            fill: Id behind the shorter ones.

        Returns:
            uint8, (sequences, longest of them).
        """
        lengths = self.lengths[indices]
        if lengths.min() == lengths.max():
            alike: TokenArray = self.flat[self.starts[indices][:, None] + np.arange(lengths[0])]
            return alike
        rows = np.full((len(lengths), int(lengths.max())), fill, dtype=np.uint8)
        for row, start, length in zip(rows, self.starts[indices].tolist(), lengths.tolist(), strict=True):
            row[:length] = self.flat[start : start + length]
        return rows

    def crop_centre(self, max_length: int) -> TokenStore:
        """Return at most the middle `max_length` tokens of each sequence, without copying tokens."""
        lengths = np.minimum(self.lengths, max_length)
        return TokenStore(self.flat, self.starts + (self.lengths - lengths) // 2, lengths)


@dataclass(frozen=True)
class LabelledSequences:
    """A data set for training and evaluation.

    Attributes:
        names: A name for every sequence; no name comes twice.
        tokens: The sequences.
        labels: (n,) int64 class numbers for classification; (n, k) float32 for multilabel (0 or 1) and
            regression.
        classes: The k class names, or target names for regression.
        task: What the labels mean.
        intervals: Where the sequences lie, or None unless that is known for every one.
        split: (n,) given part, "train", "validation" or "test", or None.
        sources: ``file:line`` of every sequence.
        notes: What a reader decided or left out, in words for the user.
    """

    names: list[str]
    tokens: TokenStore
    labels: np.ndarray
    classes: tuple[str, ...]
    task: Task
    intervals: list[Interval] | None = None
    split: np.ndarray | None = None
    sources: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.names)
        for what in ("tokens", "labels", "intervals", "split", "sources"):
            column = getattr(self, what)
            if column is not None and len(column) != n and not (what == "sources" and not column):
                raise ValueError(f"{what} must have one entry a name ({n}), got {len(column)}")
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        shape = (n,) if self.task == "classification" else (n, len(self.classes))
        if self.labels.shape != shape:
            raise ValueError(f"labels for {self.task} must have the shape {shape}, got {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.names)

    def cropped(self, max_length: int) -> LabelledSequences:
        """Return at most the middle `max_length` bases of each record, with the interval of that part."""
        tokens = self.tokens.crop_centre(max_length)
        intervals = self.intervals
        if intervals is not None:
            intervals = [
                _crop_interval(interval, length)
                for interval, length in zip(intervals, tokens.lengths.tolist(), strict=True)
            ]
        return replace(self, tokens=tokens, intervals=intervals)

    def select(self, indices: npt.ArrayLike) -> LabelledSequences:
        """Return some of the records, in the given order."""
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        order = chosen.tolist()
        return replace(
            self,
            names=[self.names[i] for i in order],
            tokens=self.tokens.select(chosen),
            labels=self.labels[chosen],
            intervals=None if self.intervals is None else [self.intervals[i] for i in order],
            split=None if self.split is None else self.split[chosen],
            sources=[self.sources[i] for i in order] if self.sources else [],
        )


def _crop_interval(interval: Interval, length: int) -> Interval:
    cut = len(interval) - length
    # An odd base is cut from the sequence's right end, which is the left end of a minus-strand interval.
    left = cut - cut // 2 if interval.strand == "-" else cut // 2
    return replace(interval, start=interval.start + left, end=interval.start + left + length)


def header_intervals(
    headers: Sequence[str], lengths: npt.NDArray[np.int64]
) -> tuple[list[Interval] | None, tuple[str, ...]]:
    """Read the place of every sequence from its header.

    Args:
        headers: FASTA headers, or the parts of them that may hold coordinates.
        lengths: Number of bases of every sequence.

    Returns:
        The intervals, or None unless every header has one; and a note if only some have.
    """
    intervals: list[Interval] = []
    for header, length in zip(headers, lengths.tolist(), strict=True):
        interval = parse_header(header, length)
        if interval is not None:
            intervals.append(interval)
    if headers and len(intervals) == len(headers):
        return intervals, ()
    if not intervals:
        return None, ()
    missing = len(headers) - len(intervals)
    return None, (
        f"{missing} of {len(headers)} headers carry no coordinates that fit their sequence, "
        "so the coordinates of the others are not used",
    )


def check_classes(labels: np.ndarray, classes: Sequence[str], sources: Sequence[str]) -> None:
    """Check that there are classes to tell apart, each large enough to be split in three.

    Args:
        labels: (n,) class numbers.
        classes: Class names.
        sources: ``file:line`` of every record.

    Raises:
        UserError: If there is one class only, or a class has fewer than three sequences.
    """
    if len(classes) < 2:
        only = f" ({classes[0]!r})" if classes else ""
        raise UserError(
            f"{sources[0] if sources else 'the data'}: expected at least 2 classes, got {len(classes)}{only}",
            hint="give sequences of another class, for example a second FASTA file",
        )
    counts = np.bincount(labels, minlength=len(classes))
    for number, count in enumerate(counts.tolist()):
        if count >= SMALLEST_CLASS:
            continue
        where = ", ".join(sources[i] for i in np.flatnonzero(labels == number).tolist()) or "no file"
        raise UserError(
            f"{where}: class {classes[number]!r} has {count} sequence{'s' if count != 1 else ''}, "
            f"expected at least {SMALLEST_CLASS}",
            hint="training, validation and test need one each; add sequences or remove the class",
        )


def unique_names(names: Sequence[str], prefixes: Iterable[str]) -> list[str]:
    """Make names unique by writing ``prefix/`` before those that come twice.

    Args:
        names: Names as in the files.
        prefixes: What tells namesakes apart, one a name: a class, or a file and line.
    """
    seen: set[str] = set()
    repeated = {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]
    if not repeated:
        return list(names)
    return [
        f"{prefix}/{name}" if name in repeated else name for name, prefix in zip(names, prefixes, strict=True)
    ]


def normalise_part(value: str, where: str) -> str:
    """Read the name of a part of the data in any of its usual spellings.

    Raises:
        UserError: If it is none of them.
    """
    part = PART_NAMES.get(value.strip().lower())
    if part is None:
        raise UserError(f"{where}: expected train, validation or test as the split, got {value!r}")
    return part


PART_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
