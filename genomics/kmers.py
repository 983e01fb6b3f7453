"""K-mer codes of token sequences: the arithmetic under similarity search and the k-mer baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genomics.alphabet import VOCAB_SIZE, encode
from seqmamba.ops.numba_math import kernel

AMBIGUOUS = 4
"""Two-bit code (A 0, C 1, G 2, T 3) of everything that is not one of the four bases."""

_CODE_OF_TOKEN = np.full(VOCAB_SIZE, AMBIGUOUS, dtype=np.uint8)
_CODE_OF_TOKEN[encode("ACGT")] = np.arange(4)


def base_codes(tokens: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lay sequences end to end as two-bit base codes.

    Args:
        tokens: Token ids of each sequence, uint8 (length,).

    Returns:
        Codes, uint8 (total bases,), 0-3 for A, C, G, T and 4 for anything else; and the offsets, int64 (n +
        1,): sequence ``i`` is ``codes[offsets[i]:offsets[i + 1]]``.
    """
    rows = [tokens[i] for i in range(len(tokens))]
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    joined = np.concatenate(rows) if rows else np.empty(0, dtype=np.uint8)
    return _CODE_OF_TOKEN[joined], offsets


def canonical_kmer_index(k: int) -> tuple[np.ndarray, int]:
    """Number the k-mers so that a k-mer and its reverse complement share a number.

    Args:
        k: Length of the words, at most 12.

    Returns:
        The number of each plain k-mer code, int64 (4**k,), and how many numbers there are.
    """
    codes = np.arange(4**k, dtype=np.int64)
    reverse = np.zeros_like(codes)
    rest = codes.copy()
    for _ in range(k):
        reverse = reverse * 4 + (3 - rest % 4)
        rest //= 4
    values, index = np.unique(np.minimum(codes, reverse), return_inverse=True)
    return index, len(values)


@kernel()
def _count_words(codes, offsets, chosen, k, column, counts):  # type: ignore[no-untyped-def]
    mask = 4**k - 1
    for row in range(len(chosen)):
        word = 0
        run = 0
        for position in range(offsets[chosen[row]], offsets[chosen[row] + 1]):
            code = codes[position]
            if code > 3:
                run = 0
                continue
            word = ((word << 2) | code) & mask
            run += 1
            if run >= k:
                counts[row, column[word]] += 1


def kmer_counts(
    codes: np.ndarray, offsets: np.ndarray, k: int, *, canonical: bool, chosen: np.ndarray | None = None
) -> np.ndarray:
    """Count the k-mers of each sequence; words with an ambiguous base are skipped.

    Args:
        codes: Base codes from `base_codes`.
        offsets: Offsets from `base_codes`.
        k: Length of the words.
        canonical: Whether a word and its reverse complement count as one.
        chosen: Positions of the sequences to count, all by default, int64 (m,).

    Returns:
        Counts, float32 (m, words).
    """
    column, width = canonical_kmer_index(k) if canonical else (np.arange(4**k, dtype=np.int64), 4**k)
    chosen = np.arange(len(offsets) - 1) if chosen is None else chosen
    counts = np.zeros((len(chosen), width), dtype=np.float32)
    _count_words(codes, offsets, chosen, k, column, counts)
    return counts
