from __future__ import annotations

import numpy as np
import pytest

from genomics.track_metrics import BlockMoments, evaluate_tracks
from seqmamba.errors import UserError

BLOCKS = 6


def filled(offset: float = 0.0) -> tuple[BlockMoments, np.ndarray, np.ndarray, np.ndarray]:
    """Moments added in pieces that cut through blocks, and everything that went in."""
    rng = np.random.default_rng(0)
    block = np.sort(rng.integers(0, BLOCKS, 500))
    truth = rng.normal(size=(500, 3)) + offset
    predicted = 0.5 * truth + rng.normal(size=(500, 3)) + offset
    truth[rng.random(500) < 0.2, 1] = np.nan
    truth[:, 2] = 4 + offset
    moments = BlockMoments(BLOCKS, 3)
    for start in range(0, 500, 37):
        here = slice(start, start + 37)
        moments.add(block[here], predicted[here], truth[here])
    return moments, block, predicted, truth


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_values_and_resamples_are_those_of_the_bins(offset: float) -> None:
    moments, block, predicted, truth = filled(offset)
    weights = np.array([np.ones(BLOCKS), [0, 2, 1, 0, 3, 0]])
    found = moments.evaluate(weights)
    for row, weight in enumerate(weights):
        for target in range(2):
            drawn = np.repeat(np.arange(500), weight[block].astype(int))
            drawn = drawn[np.isfinite(truth[drawn, target])]
            x, y = predicted[drawn, target], truth[drawn, target]
            assert found["pearson"][row, target] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
            assert found["mse"][row, target] == pytest.approx(((x - y) ** 2).mean(), rel=1e-6)
            r2 = 1 - ((x - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
            assert found["r2"][row, target] == pytest.approx(r2, rel=1e-6)
    assert np.isnan(found["pearson"][:, 2]).all()  # of a constant
    assert np.isnan(found["r2"][:, 2]).all()


def test_intervals_and_the_mean_over_tracks() -> None:
    moments = filled()[0]
    found = evaluate_tracks(moments, ("a", "b", "constant"), n_bootstrap=200)
    for target in ("a", "b"):
        each = found[target]["pearson"]
        assert each.low < each.value < each.high
        assert each.high - each.low < 0.5
    assert found["mean"]["pearson"].value == pytest.approx(
        (found["a"]["pearson"].value + found["b"]["pearson"].value) / 2
    )
    assert np.isnan(found["constant"]["pearson"].value)
    assert list(evaluate_tracks(moments, ("a", "b", "c"), n_bootstrap=0)) == ["a", "b", "c", "mean"]
    assert found["mean"] == evaluate_tracks(moments, ("a", "b", "constant"), n_bootstrap=200)["mean"]


def test_perfect_predictions_and_none() -> None:
    moments = BlockMoments(1, 1)
    values = np.array([[1e-3], [2e-3], [5e-3]])
    moments.add(np.zeros(3, dtype=int), values, values)
    found = evaluate_tracks(moments, ("x",), n_bootstrap=0)["x"]
    assert (found["pearson"].value, found["r2"].value) == pytest.approx((1, 1))
    assert found["mse"].value == pytest.approx(0, abs=1e-18)
    with pytest.raises(UserError, match="at least one bin with a value"):
        evaluate_tracks(BlockMoments(2, 1), ("x",))
