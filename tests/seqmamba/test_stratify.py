from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmamba.stratify import deal_groups, in_turn

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}


@given(
    sizes=st.lists(st.integers(1, 30), min_size=12, max_size=60),
    n_strata=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_groups_stay_whole_and_every_part_gets_something(sizes: list[int], n_strata: int, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    strata = groups % n_strata
    parts = deal_groups(groups, strata, FRACTIONS, seed=seed)
    for group in range(len(sizes)):
        assert len(set(parts[groups == group])) == 1
    for part in FRACTIONS:
        assert set(strata[parts == part]) == set(range(n_strata))
    np.testing.assert_array_equal(parts, deal_groups(groups, strata, FRACTIONS, seed=seed))


def test_single_sequences_meet_the_fractions_in_every_stratum() -> None:
    strata = np.repeat([0, 1], [800, 200])
    parts = deal_groups(np.arange(1000), strata, FRACTIONS, seed=3)
    for stratum, size in ((0, 800), (1, 200)):
        for part, fraction in FRACTIONS.items():
            assert np.sum(parts[strata == stratum] == part) == pytest.approx(fraction * size)


def test_another_seed_gives_another_split() -> None:
    strata = np.zeros(100, dtype=np.int64)
    splits = {tuple(deal_groups(np.arange(100), strata, FRACTIONS, seed=seed)) for seed in range(3)}
    assert len(splits) == 3


def test_a_group_larger_than_the_test_part_is_trained_on() -> None:
    groups = np.repeat([0, *range(1, 41)], [60] + [1] * 40)
    parts = deal_groups(groups, np.zeros(100, dtype=np.int64), FRACTIONS, seed=0)
    assert set(parts[:60]) == {"train"}
    assert np.sum(parts == "test") == 20


def test_three_groups_of_a_class_are_enough_for_three_parts() -> None:
    groups = np.repeat([0, 1, 2, *range(3, 43)], [10, 20, 30] + [1] * 40)
    strata = np.where(groups < 3, 1, 0)
    parts = deal_groups(groups, strata, FRACTIONS, seed=0)
    assert {parts[groups == group][0] for group in range(3)} == set(FRACTIONS)


def test_the_first_of_every_group_come_before_the_second() -> None:
    assert in_turn([["a", "b", "c"], [], ["d"], ["e", "f"]], 10) == ["a", "d", "e", "b", "f", "c"]
    assert in_turn([[None, 0], [1]], 2) == [None, 1]
    assert in_turn([], 3) == []
