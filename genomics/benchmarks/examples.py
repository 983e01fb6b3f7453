"""From single labelled sequences, as readers find them, to a `LabelledSequences` with given parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from genomics.alphabet import LEGAL_LETTERS, TokenArray, encode, illegal_letter
from genomics.datasets.labels import class_numbers
from genomics.datasets.records import LabelledSequences, TokenStore, unique_names
from genomics.intervals import Interval
from seqmamba.errors import UserError


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled sequence of a benchmark.

    Attributes:
        name: Its name in the files, or one made up from its place there.
        tokens: Token ids, uint8 (length,).
        label: Class name as in the files.
        part: "train", "validation" or "test"; None where the benchmark has no split.
        where: ``file:line``.
        interval: Where it lies, if that is known.
    """

    name: str
    tokens: TokenArray
    label: str
    part: str | None
    where: str
    interval: Interval | None = None


def tokens_of(sequence: str | bytes, where: str) -> TokenArray:
    """Encode a sequence.

    Raises:
        UserError: With `where`, if it is empty or at the first letter that is no DNA.
    """
    letters = sequence.encode("utf-8") if isinstance(sequence, str) else sequence
    if not letters:
        raise UserError(f"{where}: has no sequence")
    strange = letters.translate(None, LEGAL_LETTERS)
    if strange:
        place = letters.find(strange[:1]) + 1
        raise illegal_letter(strange[:1].decode("latin-1"), f"{where}: base {place}")
    return encode(letters)


def collect(examples: Iterable[Example], what: str) -> LabelledSequences:
    """Make a data set of examples.

    Classes are numbered by their sorted names (as numbers if all are numbers), over all parts together. Some
    published loaders number them in the order in which a folder lists them, for each part anew.

    Args:
        examples: The sequences; all of them, or none, have a part.
        what: The benchmark and its files, for errors.

    Raises:
        UserError: If there is none, fewer than two classes, a class of fewer than three sequences, or a class
            that only some parts have.
    """
    found = list(examples)
    if not found:
        raise UserError(f"{what}: holds no sequence")
    sources = [example.where for example in found]
    labels, classes = class_numbers([example.label for example in found], sources)
    split = None
    if found[0].part is not None:
        split = np.array([str(example.part) for example in found])
        for part in np.unique(split):
            missing = sorted(set(range(len(classes))) - set(labels[split == part].tolist()))
            if missing:
                raise UserError(f"{what}: the {part} part has no sequence of class {classes[missing[0]]!r}")
    placed = all(example.interval is not None for example in found)
    names = unique_names([example.name for example in found], [example.part or "" for example in found])
    return LabelledSequences(
        names=unique_names(names, sources),
        tokens=TokenStore.from_arrays([example.tokens for example in found]),
        labels=labels,
        classes=classes,
        task="classification",
        intervals=[example.interval for example in found if example.interval] if placed else None,
        split=split,
        sources=sources,
    )
