"""Which entries of a data set are the same, letter for letter or on the other strand.

Two sequences are compared by their bases. Where only coordinates are known, the same interval on the same
genome is the same sequence, and on the opposite strand its reverse complement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from genomics.alphabet import reverse_complement
from genomics.coordinates import Coordinates
from genomics.intervals import STRANDS


class Twins(NamedTuple):
    """Numbers that are equal where sequences are.

    Attributes:
        own: Number of each sequence.
        other: The number that its reverse complement has; its own for a palindrome.
    """

    own: Int64[np.ndarray, " n"]
    other: Int64[np.ndarray, " n"]

    def groups(self) -> Int64[np.ndarray, " n"]:
        """Return a number that copies and reverse complements share."""
        return np.minimum(self.own, self.other)


def sequence_twins(tokens: Sequence[np.ndarray]) -> Twins:
    """Compare sequences by their bases.

    Args:
        tokens: Token ids of each sequence, uint8 (length,).
    """
    numbers: dict[bytes, int] = {}
    own = np.empty(len(tokens), dtype=np.int64)
    other = np.empty(len(tokens), dtype=np.int64)
    for i in range(len(tokens)):
        own[i] = numbers.setdefault(tokens[i].tobytes(), len(numbers))
        other[i] = numbers.setdefault(reverse_complement(tokens[i]).tobytes(), len(numbers))
    return Twins(own, other)


def interval_twins(places: Coordinates) -> Twins:
    """Compare intervals of one genome; one without a strand is read as it stands in the genome."""
    order = np.lexsort((places.end, places.start, places.chrom))
    columns = np.stack([places.chrom, places.start, places.end])[:, order]
    is_new = np.ones(len(places), dtype=bool)
    is_new[1:] = (columns[:, 1:] != columns[:, :-1]).any(0)
    place = np.empty(len(places), dtype=np.int64)
    place[order] = np.cumsum(is_new) - 1
    minus = (places.strand == STRANDS.index("-")).astype(np.int64)
    return Twins(2 * place + minus, 2 * place + 1 - minus)
