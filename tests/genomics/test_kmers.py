from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from labelled import random_dna, reverse_complement

from genomics.alphabet import encode
from genomics.kmers import base_codes, canonical_kmer_index, kmer_counts


def test_base_codes_marks_what_is_not_a_base() -> None:
    codes, offsets = base_codes([encode("ACGT"), encode(""), encode("nRa")])
    assert codes.tolist() == [0, 1, 2, 3, 4, 4, 0]
    assert offsets.tolist() == [0, 4, 4, 7]


@pytest.mark.parametrize(("k", "words"), [(1, 2), (2, 10), (3, 32), (4, 136), (5, 512), (6, 2080)])
def test_number_of_canonical_words(k: int, words: int) -> None:
    assert canonical_kmer_index(k)[1] == words


@pytest.mark.parametrize("k", [1, 2, 5])
def test_counts_are_those_of_a_plain_loop(k: int) -> None:
    sequence = random_dna(np.random.default_rng(0), 80)
    sequence = sequence[:30] + "N" + sequence[31:]
    expected = Counter(sequence[i : i + k] for i in range(len(sequence) - k + 1))
    counts = kmer_counts(*base_codes([encode(sequence)]), k, canonical=False)[0]
    for word, number in expected.items():
        if "N" not in word:
            assert counts[int("".join(str("ACGT".index(base)) for base in word), 4)] == number
    assert counts.sum() == sum(number for word, number in expected.items() if "N" not in word)


def test_canonical_counts_do_not_see_the_strand() -> None:
    sequence = random_dna(np.random.default_rng(1), 60)
    codes, offsets = base_codes([encode(sequence), encode(reverse_complement(sequence))])
    canonical = kmer_counts(codes, offsets, 4, canonical=True)
    np.testing.assert_array_equal(canonical[0], canonical[1])
    plain = kmer_counts(codes, offsets, 4, canonical=False)
    assert (plain[0] != plain[1]).any()


def test_counts_of_chosen_sequences_come_in_their_order() -> None:
    codes, offsets = base_codes([encode("AAAA"), encode("CCCC"), encode("GG")])
    counts = kmer_counts(codes, offsets, 1, canonical=False, chosen=np.array([2, 0]))
    assert counts.tolist() == [[0, 0, 2, 0], [4, 0, 0, 0]]
