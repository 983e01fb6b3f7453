from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from seqmamba.report import curves


def _scores(n: int, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    scores = positive + rng.normal(0, 1, n)
    return (np.round(scores, 1) if ties else scores), positive


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [7, 200, 3000])
def test_areas_equal_torchmetrics(n: int, ties: bool) -> None:
    scores, positive = _scores(n, ties=ties)
    # torchmetrics squashes scores outside [0, 1] through a float32 sigmoid, which would add ties.
    unit = (scores - scores.min()) / (scores.max() - scores.min())
    wanted = torch.from_numpy(unit), torch.from_numpy(positive.astype(np.int64))
    assert curves.roc(unit, positive).area == pytest.approx(float(binary_auroc(*wanted)), abs=1e-6)
    assert curves.precision_recall(unit, positive).area == pytest.approx(
        float(binary_average_precision(*wanted)), abs=1e-6
    )


def test_long_curves_are_thinned_but_keep_their_shape() -> None:
    scores, positive = _scores(20_000)
    curve = curves.roc(scores, positive)
    assert len(curve.x) <= curves.MAX_POINTS + 2
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    drawn = np.sum(np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2)
    assert drawn == pytest.approx(curve.area, abs=2e-3)


def test_one_class_alone_has_no_area() -> None:
    alone = np.zeros(5, dtype=bool)
    assert np.isnan(curves.roc(np.arange(5.0), alone).area)
    assert np.isnan(curves.precision_recall(np.arange(5.0), alone).area)
    assert np.isnan(curves.roc(np.empty(0), np.empty(0, dtype=bool)).area)


def test_band_holds_the_curve_and_narrows_with_more_sequences() -> None:
    widths = []
    for n in (100, 2000):
        scores, positive = _scores(n)
        band, curve = curves.roc_band(scores, positive), curves.roc(scores, positive)
        assert band is not None
        middle = np.interp(band.x, curve.x, curve.y)
        assert ((middle >= band.low - 0.05) & (middle <= band.high + 0.05)).all()
        widths.append((band.high - band.low).mean())
    assert widths[1] < widths[0] / 2
    assert curves.roc_band(np.arange(3.0), np.array([True, False, False])) is None


def test_calibration_of_honest_probabilities_is_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random(20_000)
    bins = curves.calibration(stated, rng.random(20_000) < stated)
    assert bins.count.sum() == 20_000
    assert np.abs(bins.confidence - bins.frequency).max() < 0.04
    assert ((bins.low <= bins.frequency) & (bins.frequency <= bins.high)).all()


def test_calibration_leaves_out_empty_bins_and_takes_the_right_edge() -> None:
    bins = curves.calibration(np.array([0.5, 1.0]), np.array([True, False]), low=0.5, bins=5)
    assert bins.count.tolist() == [1, 1]
    assert bins.confidence.tolist() == [0.5, 1.0]


def test_wilson_interval_of_a_known_case() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    low, high = curves.wilson(np.array([81 / 263]), np.array([263]))
    assert (low[0], high[0]) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_confusion_puts_truth_in_rows() -> None:
    matrix = curves.confusion(np.array([0, 0, 2]), np.array([1, 0, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
