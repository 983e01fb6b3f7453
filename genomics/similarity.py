"""Find sequences that are alike, on either strand, without aligning them.

Two sequences are compared by containment: the share of the shorter one's canonical k-mers (a word and its
reverse complement are one) that the longer one also has. Words count with their multiplicity, so a stretch of
poly-A is alike another stretch of poly-A but not every sequence with a short poly-A tail. At identity p, two
sequences of the same length have a containment of about p**k (Mash, Ondov et al. 2016, section "Mash
distance").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genomics.alphabet import reverse_complement
from genomics.kmers import base_codes
from seqmamba.ops.numba_math import kernel

WORD = 12
"""Length of the k-mers: short enough to see through a few mutations, long enough to be rare by chance."""

_MIN_SHARED = 4
"""Fewer common words prove nothing: a single 12-mer is found in any 10 Mb by chance."""

_WORD_BUDGET = 24_000_000
"""More words than this are thinned by hash, alike in every sequence (FracMinHash, Irber et al. 2022)."""

_WINDOW = 128
"""Of the sequences that share a very common word, at most this many are looked at for each occurrence."""


@kernel(inline="always")
def _mix(value):  # type: ignore[no-untyped-def]
    """Splitmix64's finaliser: a bijection of 64-bit integers without visible pattern."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel()
def _kept_words(codes, start, end, k, limit, out):  # type: ignore[no-untyped-def]
    """Write the hashes (at most ``limit``) of the canonical k-mers of one sequence; return how many."""
    mask = (np.uint64(1) << np.uint64(2 * k)) - np.uint64(1)
    top = np.uint64(2 * (k - 1))
    forward = np.uint64(0)
    backward = np.uint64(0)
    run = 0
    kept = 0
    for position in range(start, end):
        code = np.uint64(codes[position])
        if code > np.uint64(3):
            run = 0
            continue
        forward = ((forward << np.uint64(2)) | code) & mask
        backward = (backward >> np.uint64(2)) | ((np.uint64(3) - code) << top)
        run += 1
        if run >= k:
            word = _mix(min(forward, backward) + np.uint64(0x9E3779B97F4A7C15))
            if word <= limit:
                out[kept] = word
                kept += 1
    return kept


@kernel()
def _word_keys(codes, offsets, k, limit):  # type: ignore[no-untyped-def]
    """Return the keys of all sequences end to end, ascending in each, and how many each has.

    The n-th occurrence of a word in a sequence gets its own key, so that sets of keys are multisets of words.
    """
    n = len(offsets) - 1
    longest = 0
    for i in range(n):
        longest = max(longest, offsets[i + 1] - offsets[i])
    buffer = np.empty(longest, dtype=np.uint64)
    sizes = np.zeros(n, dtype=np.int64)
    total = 0
    for i in range(n):
        sizes[i] = _kept_words(codes, offsets[i], offsets[i + 1], k, limit, buffer)
        total += sizes[i]
    keys = np.empty(total, dtype=np.uint64)
    start = 0
    for i in range(n):
        size = _kept_words(codes, offsets[i], offsets[i + 1], k, limit, buffer)
        words = np.sort(buffer[:size])
        occurrence = np.uint64(0)
        for j in range(size):
            occurrence = occurrence + np.uint64(1) if j > 0 and words[j] == words[j - 1] else np.uint64(0)
            keys[start + j] = words[j] if occurrence == 0 else _mix(words[j] + occurrence)
        keys[start : start + size] = np.sort(keys[start : start + size])
        start += size
    return keys, sizes


@kernel()
def _shared(words, a, a_end, b, b_end):  # type: ignore[no-untyped-def]
    """Count the words that two ascending stretches of ``words`` have in common."""
    shared = 0
    while a < a_end and b < b_end:
        if words[a] == words[b]:
            shared += 1
            a += 1
            b += 1
        elif words[a] < words[b]:
            a += 1
        else:
            b += 1
    return shared


@kernel()
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel()
def _unite_alike(words, offsets, starts, members, threshold, parent):  # type: ignore[no-untyped-def]
    """Join every sequence with the earlier ones that are alike, in the union-find forest ``parent``."""
    n = len(offsets) - 1
    counts = np.zeros(n, dtype=np.int32)
    touched = np.empty(n, dtype=np.int32)
    for i in range(n):
        n_touched = 0
        cut = 0  # words for which not all earlier owners were looked at
        for entry in range(offsets[i], offsets[i + 1]):
            low, high = starts[words[entry]], starts[words[entry] + 1]
            own = low + np.searchsorted(members[low:high], i)
            if own - low > _WINDOW:
                low = own - _WINDOW
                cut += 1
            for p in range(low, own):
                j = members[p]
                if counts[j] == 0:
                    touched[n_touched] = j
                    n_touched += 1
                counts[j] += 1
        size = offsets[i + 1] - offsets[i]
        for t in range(n_touched):
            j = touched[t]
            count = counts[j]
            counts[j] = 0
            needed = max(threshold * min(size, offsets[j + 1] - offsets[j]), _MIN_SHARED)
            if count + cut < needed:
                continue
            root_i, root_j = _root(parent, i), _root(parent, j)
            if root_i == root_j:
                continue
            if count < needed:
                count = _shared(words, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1])
            if count >= needed:
                parent[max(root_i, root_j)] = min(root_i, root_j)


@kernel()
def _best_matches(words, offsets, starts, members, level, threshold, match, value):  # type: ignore[no-untyped-def]
    """Find, for each sequence of level > 0, its most alike sequence of a lower level."""
    n = len(offsets) - 1
    counts = np.zeros(n, dtype=np.int32)
    touched = np.empty(n, dtype=np.int32)
    for i in range(n):
        if level[i] <= 0:
            continue
        n_touched = 0
        cut = 0
        for entry in range(offsets[i], offsets[i + 1]):
            seen = 0
            for p in range(starts[words[entry]], starts[words[entry] + 1]):
                j = members[p]
                if level[j] < 0 or level[j] >= level[i]:
                    continue
                if seen == 8 * _WINDOW:
                    cut += 1
                    break
                seen += 1
                if counts[j] == 0:
                    touched[n_touched] = j
                    n_touched += 1
                counts[j] += 1
        size = offsets[i + 1] - offsets[i]
        for t in range(n_touched):
            j = touched[t]
            count = counts[j]
            counts[j] = 0
            smaller = min(size, offsets[j + 1] - offsets[j])
            bar = max(threshold, value[i])
            if count + cut < max(bar * smaller, _MIN_SHARED):
                continue
            if cut > 0:
                count = _shared(words, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1])
            if count >= max(threshold * smaller, _MIN_SHARED) and count / smaller > value[i]:
                value[i] = count / smaller
                match[i] = j


@dataclass(frozen=True)
class WordIndex:
    """The words of a set of sequences, by sequence and by word.

    Args:
        words: Word numbers of all sequences end to end, ascending in each, int32 (entries,).
        offsets: Where each sequence begins in ``words``, int64 (n + 1,).
        starts: Where each word begins in ``members``, int64 (words + 1,).
        members: Sequences that have each word, ascending for each word, int32 (entries,).
    """

    words: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray
    members: np.ndarray

    @classmethod
    def build(cls, tokens: Sequence[np.ndarray]) -> WordIndex:
        """Index the canonical 12-mers of sequences, thinned when there are too many to hold.

        Args:
            tokens: Token ids of each sequence, uint8 (length,).
        """
        codes, bounds = base_codes(tokens)
        share = min(1.0, _WORD_BUDGET / max(len(codes), 1))
        limit = np.uint64(min(int(share * 2**64), 2**64 - 1))
        keys, sizes = _word_keys(codes, bounds, WORD, limit)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        order = np.argsort(keys, kind="stable")
        ascending = keys[order]
        is_new = np.ones(len(keys), dtype=bool)
        is_new[1:] = ascending[1:] != ascending[:-1]
        words = np.empty(len(keys), dtype=np.int32)
        words[order] = np.cumsum(is_new) - 1
        members = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order]
        starts = np.append(np.flatnonzero(is_new), len(keys))
        return cls(words, offsets, starts, members)


def canonical_groups(tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Number the sequences so that identical ones, and reverse complements of each other, share a number.

    Args:
        tokens: Token ids of each sequence, uint8 (length,).

    Returns:
        Group of each sequence, int64 (n,), numbered from 0 in order of first appearance.
    """
    numbers: dict[bytes, int] = {}
    groups = np.empty(len(tokens), dtype=np.int64)
    for i in range(len(tokens)):
        forward = tokens[i].tobytes()
        key = min(forward, reverse_complement(tokens[i]).tobytes())
        groups[i] = numbers.setdefault(key, len(numbers))
    return groups


def similarity_clusters(tokens: Sequence[np.ndarray], similarity: float = 0.5) -> np.ndarray:
    """Cluster sequences so that alike ones, on either strand, end up together (single linkage).

    Sequences with too few words to compare (shorter than 15 bases, or all N) only join their exact copies and
    reverse complements.

    Args:
        tokens: Token ids of each sequence, uint8 (length,).
        similarity: Containment from which two sequences are alike, in (0, 1].

    Returns:
        Cluster of each sequence, int64 (n,), numbered from 0 in order of first appearance.
    """
    copies = canonical_groups(tokens)
    # One representative of each group of copies is enough.
    first = np.unique(copies, return_index=True)[1]
    index = WordIndex.build([tokens[i] for i in first])
    parent = np.arange(len(first), dtype=np.int64)
    _unite_alike(index.words, index.offsets, index.starts, index.members, similarity, parent)
    roots = np.array([_root(parent, i) for i in range(len(first))], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1][copies]


def most_alike(
    tokens: Sequence[np.ndarray], level: np.ndarray, similarity: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Find, for each sequence, the most alike sequence of a lower level, on either strand.

    Args:
        tokens: Token ids of each sequence, uint8 (length,).
        level: Level of each sequence, int64 (n,); sequences of a negative level take no part.
        similarity: Containment from which two sequences are alike, in (0, 1].

    Returns:
        The match of each sequence, int64 (n,), -1 where none is alike; and their containment, float64 (n,).
    """
    index = WordIndex.build(tokens)
    match = np.full(len(tokens), -1, dtype=np.int64)
    value = np.zeros(len(tokens))
    levels = np.ascontiguousarray(level, dtype=np.int64)
    _best_matches(index.words, index.offsets, index.starts, index.members, levels, similarity, match, value)
    return match, value
