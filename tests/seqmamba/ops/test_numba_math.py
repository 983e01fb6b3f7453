from __future__ import annotations

import numpy as np
import pytest

from seqmamba.ops.numba_math import exp2, kernel, sigmoid, softplus


@pytest.mark.parametrize(
    ("function", "exact", "low", "high"),
    [
        (exp2, np.exp2, -125.0, 126.0),
        (sigmoid, lambda x: 1 / (1 + np.exp(-x)), -80.0, 80.0),
        (softplus, lambda x: np.logaddexp(0, x), -80.0, 80.0),
    ],
)
def test_relative_error(function: object, exact: object, low: float, high: float) -> None:
    x = np.concatenate([np.linspace(low, high, 20001), np.linspace(-1, 1, 20001)]).astype(np.float32)
    actual = np.array([function(v) for v in x], dtype=np.float64)
    wanted = exact(x.astype(np.float64))
    # for sigmoid and softplus the rounding of x log2(e) grows with |x|
    assert np.max(np.abs(actual / wanted - 1) / (1 + np.abs(x) / 4)) < 4e-7


def test_the_ends() -> None:
    for far in (np.float32(-1e4), np.float32(-np.inf)):
        assert 0 <= exp2(far) <= np.float32(2.0**-126)
        assert 0 <= sigmoid(far) <= np.float32(2.0**-125)
        assert 0 <= softplus(far) <= np.float32(2.0**-125)
    assert exp2(np.float32(0)) == 1
    assert sigmoid(np.float32(1e4)) == 1
    assert softplus(np.float32(1e4)) == np.float32(1e4)


def test_a_kernel_compiles_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    compile_kernel = numba.njit

    def without_a_cache_directory(*arguments: object, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_kernel(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_a_cache_directory)
    assert kernel()(lambda x: x + 1)(2) == 3
