from __future__ import annotations

import numpy as np
import pytest
from labelled import mutate, random_dna, reverse_complement

from genomics import similarity
from genomics.alphabet import encode
from genomics.similarity import canonical_groups, most_alike, similarity_clusters


def clusters(*sequences: str, threshold: float = 0.5) -> list[int]:
    return similarity_clusters([encode(sequence) for sequence in sequences], threshold).tolist()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_unrelated_sequences_stay_apart(rng: np.random.Generator) -> None:
    assert clusters(*(random_dna(rng, 200) for _ in range(300))) == list(range(300))


def test_mutated_copies_and_their_reverse_complements_are_alike(rng: np.random.Generator) -> None:
    first, second = random_dna(rng, 200), random_dna(rng, 200)
    alike = [mutate(rng, first, 5), reverse_complement(mutate(rng, first, 5)), reverse_complement(first)]
    assert clusters(first, second, *alike) == [0, 1, 0, 0, 0]


def test_distant_copies_are_not_alike(rng: np.random.Generator) -> None:
    first = random_dna(rng, 200)
    assert clusters(first, mutate(rng, first, 60)) == [0, 1]


def test_lower_threshold_joins_more(rng: np.random.Generator) -> None:
    first = random_dna(rng, 300)
    second = first[:90] + random_dna(rng, 210)
    assert clusters(first, second) == [0, 1]
    assert clusters(first, second, threshold=0.2) == [0, 0]


def test_a_fragment_is_alike_the_whole_on_either_strand(rng: np.random.Generator) -> None:
    whole = random_dna(rng, 3000)
    fragment = whole[1000:1060]
    assert clusters(whole, fragment, reverse_complement(fragment), random_dna(rng, 60)) == [0, 0, 0, 1]


def test_alikeness_chains(rng: np.random.Generator) -> None:
    whole = random_dna(rng, 500)
    assert clusters(whole[:200], whole[300:], whole[70:270], whole[160:360], whole[230:430]) == [0] * 5


def test_a_short_repeat_does_not_join_unrelated_sequences(rng: np.random.Generator) -> None:
    with_tail = [random_dna(rng, 170) + "A" * 30 for _ in range(40)]
    labels = clusters("A" * 200, *with_tail, "T" * 180)
    assert labels[0] == labels[-1]  # a run of A is alike a run of T, its other strand
    assert len(set(labels)) == 41


def test_microsatellites_are_alike_whatever_their_phase() -> None:
    assert clusters("CA" * 100, "AC" * 90, "TG" * 80, "GAT" * 50) == [0, 0, 0, 1]


def test_short_and_ambiguous_sequences_join_only_their_copies(rng: np.random.Generator) -> None:
    long = random_dna(rng, 100)
    labels = clusters("N" * 50, "N" * 40, "N" * 50, "ACG", "CGT", "ACC", "A", long, long[:13], "")
    assert labels == [0, 1, 0, 2, 2, 3, 4, 5, 6, 7]


def test_ambiguous_bases_only_hide_the_words_that_they_touch(rng: np.random.Generator) -> None:
    sequence = random_dna(rng, 200)
    assert clusters(sequence, sequence[:100] + "N" + sequence[101:]) == [0, 0]


def test_exhaustive_comparison_finds_the_same_clusters(rng: np.random.Generator) -> None:
    families = [random_dna(rng, int(rng.integers(60, 400))) for _ in range(12)]
    sequences = []
    for _ in range(120):
        base = families[rng.integers(12)]
        copy = mutate(rng, base, int(rng.integers(0, max(2, len(base) // 12))))
        start = int(rng.integers(0, len(copy) // 2))
        sequences.append(reverse_complement(copy[start:]) if rng.random() < 0.5 else copy[start:])
    expected = np.arange(len(sequences))
    words = [_words(sequence) for sequence in sequences]
    for i in range(len(sequences)):
        for j in range(i):
            smaller = min(len(words[i]), len(words[j]))
            if len(words[i] & words[j]) >= max(0.5 * smaller, 4):
                expected[expected == expected[i]] = expected[j]
    found = np.array(clusters(*sequences))
    same = expected[:, None] == expected
    np.testing.assert_array_equal(found[:, None] == found, same)


def _words(sequence: str) -> set[tuple[str, int]]:
    words: set[tuple[str, int]] = set()
    for i in range(len(sequence) - 11):
        word = sequence[i : i + 12]
        word = min(word, reverse_complement(word))
        occurrence = sum(1 for other, _ in words if other == word)
        words.add((word, occurrence))
    return words


def test_large_families_are_found_though_not_every_pair_is_compared(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    founder = random_dna(rng, 150)
    family = [mutate(rng, founder, 3) for _ in range(3 * similarity._WINDOW)]
    assert set(clusters(*family)) == {0}


def test_thinned_words_give_the_same_answer(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [random_dna(rng, 5000) for _ in range(10)]
    sequences += [reverse_complement(mutate(rng, sequence, 50)) for sequence in sequences]
    monkeypatch.setattr(similarity, "_WORD_BUDGET", 10_000)  # one word in ten
    assert clusters(*sequences) == [*range(10), *range(10)]


def test_most_alike_looks_at_lower_levels_only(rng: np.random.Generator) -> None:
    first, second = random_dna(rng, 200), random_dna(rng, 200)
    close, closer = mutate(rng, first, 6), reverse_complement(mutate(rng, first, 2))
    tokens = [encode(sequence) for sequence in (first, close, closer, second, mutate(rng, second, 2))]
    match, value = most_alike(tokens, np.array([2, 0, 1, 0, -1]))
    assert match.tolist() == [2, -1, 1, -1, -1]
    assert 0.5 <= value[0] < 1
    assert value[1] == 0


def test_canonical_groups_number_copies_in_order() -> None:
    tokens = [encode(sequence) for sequence in ("AACC", "GGTT", "ACAC", "aacc", "N", "")]
    assert canonical_groups(tokens).tolist() == [0, 0, 1, 0, 2, 3]


def test_no_sequences() -> None:
    assert similarity_clusters([]).tolist() == []


@pytest.mark.slow
def test_a_hundred_thousand_sequences_take_less_than_a_minute() -> None:
    import time

    rng = np.random.default_rng(0)
    tokens = list(rng.integers(7, 11, (100_000, 200)).astype(np.uint8))
    started = time.process_time()
    assert similarity_clusters(tokens).max() == 99_999
    assert time.process_time() - started < 60
