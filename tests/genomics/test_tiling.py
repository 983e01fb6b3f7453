from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genomics.tiling import Span, Tiling
from seqmamba.errors import UserError


@given(
    window=st.integers(1, 60),
    step=st.integers(1, 60),
    length=st.integers(1, 300),
)
def test_centred_windows_lie_around_their_bin(window: int, step: int, length: int) -> None:
    tiling = Tiling.centred(window, step)
    rows = []
    for found in tiling.windows(Span("c", 0, length), length):
        assert found.last == found.first + 1
        middle = found.first * step + step // 2
        assert found.start == max(0, middle - window // 2)
        assert found.end == min(length, middle - window // 2 + window)
        rows.append(found.first)
    expected = [
        row
        for row in range(-(-length // step))
        if max(0, row * step + step // 2 - window // 2)
        < min(length, row * step + step // 2 - window // 2 + window)
    ]
    assert rows == expected


@given(data=st.data(), unit=st.sampled_from([1, 4]), causal=st.booleans(), length=st.integers(1, 400))
def test_trimmed_windows_keep_every_base_once_with_its_context(
    data: st.DataObject, unit: int, causal: bool, length: int
) -> None:
    window = unit * data.draw(st.integers(1, 20))
    grain = unit if causal else 2 * unit
    overlap = grain * data.draw(st.integers(0, (window - 1) // grain))
    tiling = Tiling.trimmed(window, overlap, unit=unit, causal=causal)
    kept = np.zeros(-(-length // unit), dtype=int)
    for found in tiling.windows(Span("c", 0, length), length):
        kept[found.first : found.last] += 1
        assert found.end - found.start <= window
        assert found.start % unit == 0
        first, last = found.first * unit, min(found.last * unit, length)
        left, right = (overlap, 0) if causal else (overlap // 2, overlap // 2)
        assert found.start <= max(0, first - left)
        assert found.end >= min(length, last + right)
    assert (kept == 1).all()


@given(start=st.integers(0, 30), end=st.integers(31, 60), length=st.integers(60, 90))
def test_part_of_a_grid_has_the_windows_of_the_whole(start: int, end: int, length: int) -> None:
    tiling = Tiling.trimmed(9, 4)
    low, high = tiling.covering(start, end)
    part = Span("c", low, min(high, length))
    whole = {(w.start, w.end): w for w in tiling.windows(Span("c", 0, length), length)}
    reach = tiling.reach(part, length)
    covered: set[int] = set()
    for window in tiling.windows(part, length):
        assert whole[window.start, window.end] == window
        assert reach[0] <= window.start < window.end <= reach[1]
        covered.update(range(window.first, window.last))
    assert covered >= set(range(start, end))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Tiling.centred(0, 1), "--window: expected a positive number of bases, got 0"),
        (lambda: Tiling.centred(5, -1), "--step: expected a positive number of bases, got -1"),
        (lambda: Tiling.trimmed(10, 10), "--overlap: expected 0 to 9, less than the window, got 10"),
        (lambda: Tiling.trimmed(10, 3), "multiples of 1 and 2 bases, got 10 and 3"),
        (lambda: Tiling.trimmed(10, 4, unit=4), "multiples of 4 and 8 bases, got 10 and 4"),
    ],
)
def test_refusals(make: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()  # type: ignore[operator]
