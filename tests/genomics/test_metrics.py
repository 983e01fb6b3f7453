from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as tc
from torchmetrics.functional import regression as tr

from seqmamba.errors import UserError
from seqmamba.metrics import METRICS, draw_resamples, evaluate, evaluate_resamples


def probabilities(n: int, k: int, seed: int = 0, digits: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Draw class probabilities, with ties when rounded, and labels that follow them loosely."""
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.ones(k), n).round(digits)
    drawn[:, -1] = 1 - drawn[:, :-1].sum(1)
    labels = np.array([rng.choice(k, p=row / row.sum()) for row in np.abs(drawn) ** 0.5])
    return np.clip(drawn, 0, 1), labels


@pytest.mark.parametrize("digits", [6, 1])
def test_binary_metrics_are_those_of_torchmetrics(digits: int) -> None:
    scores, labels = probabilities(500, 2, digits=digits)
    p, y = torch.tensor(scores[:, 1]), torch.tensor(labels)
    decided = torch.tensor(scores.argmax(1))
    expected = {
        "accuracy": tc.binary_accuracy(decided, y),
        "balanced_accuracy": tc.multiclass_accuracy(decided, y, num_classes=2, average="macro"),
        "mcc": tc.binary_matthews_corrcoef(decided, y),
        "f1": tc.binary_f1_score(decided, y),
        "auroc": tc.binary_auroc(p, y),
        "auprc": tc.binary_average_precision(p, y),
        "ece": tc.binary_calibration_error(p, y, n_bins=15),
    }
    found = evaluate(scores, labels, "classification", ("a", "b"), n_bootstrap=0)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-6
    )


def test_multiclass_metrics_are_those_of_torchmetrics() -> None:
    scores, labels = probabilities(600, 4)
    p, y = torch.tensor(scores), torch.tensor(labels)
    expected = {
        "accuracy": tc.multiclass_accuracy(p, y, num_classes=4, average="micro"),
        "balanced_accuracy": tc.multiclass_accuracy(p, y, num_classes=4, average="macro"),
        "mcc": tc.multiclass_matthews_corrcoef(p, y, num_classes=4),
        "f1": tc.multiclass_f1_score(p, y, num_classes=4, average="macro"),
        "auroc": tc.multiclass_auroc(p, y, num_classes=4),
        "auprc": tc.multiclass_average_precision(p, y, num_classes=4),
        "ece": tc.multiclass_calibration_error(p, y, num_classes=4, n_bins=15),
    }
    found = evaluate(scores, labels, "classification", "abcd", n_bootstrap=0)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-6
    )


def test_multilabel_metrics_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((400, 3))
    labels = (rng.random((400, 3)) < scores).astype(np.float32)
    p, y = torch.tensor(scores), torch.tensor(labels).long()
    each = range(3)

    def mean(metric: Callable[..., torch.Tensor], **options: int) -> float:
        return float(np.mean([float(metric(p[:, c].contiguous(), y[:, c], **options)) for c in each]))

    expected = {
        "accuracy": float(tc.multilabel_accuracy(p, y, num_labels=3)),
        "mcc": mean(tc.binary_matthews_corrcoef),
        "f1": float(tc.multilabel_f1_score(p, y, num_labels=3)),
        "auroc": float(tc.multilabel_auroc(p, y, num_labels=3)),
        "auprc": float(tc.multilabel_average_precision(p, y, num_labels=3)),
        "ece": mean(tc.binary_calibration_error, n_bins=15),
    }
    found = evaluate(scores, labels, "multilabel", "abc", n_bootstrap=0)
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-6)


def test_regression_metrics_are_those_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(300, 2)).round(1)  # with ties
    predictions = targets + rng.normal(size=(300, 2)).round(1)
    p, y = torch.tensor(predictions), torch.tensor(targets)
    expected = {
        "pearson": tr.pearson_corrcoef(p, y).mean(),
        "spearman": tr.spearman_corrcoef(p, y).mean(),
        "r2": tr.r2_score(p, y),
        "mse": tr.mean_squared_error(p, y),
        "mae": tr.mean_absolute_error(p, y),
    }
    found = evaluate(predictions, targets, "regression", ("y", "z"), n_bootstrap=0)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-6
    )


@pytest.mark.parametrize("task", list(METRICS))
def test_a_weighted_resample_is_the_metric_of_the_repeated_sequences(task: str) -> None:
    from seqmamba.metrics import _metrics

    rng = np.random.default_rng(1)
    n = 60
    if task == "classification":
        predictions, targets = probabilities(n, 3, digits=1)
    else:
        predictions = rng.random((n, 2)).round(1)
        targets = rng.random((n, 2)).round(1) if task == "regression" else (rng.random((n, 2)) < 0.5) * 1.0
    drawn = rng.integers(0, n, (5, n))
    weights = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)
    together = _metrics(weights, predictions, targets, task)
    for resample, row in enumerate(drawn):
        alone = _metrics(np.ones((1, n)), predictions[row], targets[row], task)
        for name, values in together.items():
            assert values[resample] == pytest.approx(alone[name][0], abs=1e-12), name


def test_intervals_hold_the_value_and_cover_as_they_should() -> None:
    # 400 right out of 500: the normal approximation gives 0.8 +- 1.96 * sqrt(0.16 / 500) = 0.035.
    labels = np.arange(500) % 2
    wrong = np.arange(500) % 5 == 0
    scores = np.where((labels == 1) ^ wrong, 0.9, 0.1)
    estimate = evaluate(np.stack([1 - scores, scores], 1), labels, "classification", "ab")["accuracy"]
    assert estimate.value == pytest.approx(0.8)
    assert estimate.low == pytest.approx(0.765, abs=0.006)
    assert estimate.high == pytest.approx(0.835, abs=0.006)


def test_equal_seeds_give_equal_intervals_and_chunking_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, labels = probabilities(100, 2)
    first = evaluate(scores, labels, "classification", "ab", n_bootstrap=50, seed=4)
    monkeypatch.setattr("seqmamba.metrics._CHUNK", 700)
    assert evaluate(scores, labels, "classification", "ab", n_bootstrap=50, seed=4) == first
    assert evaluate(scores, labels, "classification", "ab", n_bootstrap=50, seed=5) != first


def test_one_class_has_accuracy_but_no_curve() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate(scores, np.zeros(3, dtype=int), "classification", "ab")
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["balanced_accuracy"].value == pytest.approx(2 / 3)
    assert found["f1"].value == 0
    for name in ("mcc", "auroc", "auprc"):
        assert math.isnan(found[name].value)
        assert math.isnan(found[name].low)


def test_deciding_always_the_same_has_no_merit() -> None:
    scores = np.tile([0.6, 0.4], (10, 1))
    found = evaluate(scores, np.arange(10) % 2, "classification", "ab")
    assert found["mcc"].value == 0
    assert found["auroc"].value == 0.5
    assert found["balanced_accuracy"].value == 0.5


def test_one_sequence() -> None:
    found = evaluate(np.array([[0.2, 0.8]]), np.array([1]), "classification", "ab")
    assert (found["accuracy"].value, found["accuracy"].low, found["accuracy"].high) == (1, 1, 1)
    assert math.isnan(found["auroc"].value)


def test_constant_predictions_have_no_correlation() -> None:
    found = evaluate(np.full((5, 1), 0.3), np.arange(5.0)[:, None], "regression", ("y",))
    assert math.isnan(found["pearson"].value)
    assert math.isnan(found["spearman"].value)
    assert found["r2"].value < 0


def test_a_class_without_test_sequences_is_left_out_of_means() -> None:
    scores, labels = probabilities(100, 3)
    with_absent = np.column_stack([scores, np.zeros(100)])
    three = evaluate(scores, labels, "classification", "abc", n_bootstrap=0)
    four = evaluate(with_absent, labels, "classification", "abcd", n_bootstrap=0)
    for name in METRICS["classification"]:
        assert four[name].value == pytest.approx(three[name].value)


@pytest.mark.parametrize(
    ("scores", "labels", "task", "message"),
    [
        ([[0.5, np.nan]], [0], "classification", "1 of 1 rows are not finite"),
        ([[0.5, 0.6]], [0], "classification", "sum to one"),
        ([[-0.5, 1.5]], [0], "classification", "between 0 and 1"),
        ([[0.5, 0.5]], [2], "classification", "class numbers from 0 to 1"),
        ([[0.5, 0.5]], [[0]], "classification", "labels: expected shape"),
        ([[0.5]], [0], "classification", "probabilities: expected shape"),
        (np.empty((0, 2)), np.empty(0, int), "classification", "at least one sequence"),
        ([[0.5, 0.5]], [[np.nan, 0]], "regression", "finite targets"),
        ([[0.5, 0.5]], [0], "ranking", "task: expected one of"),
    ],
)
def test_what_cannot_be_evaluated_is_said(scores: object, labels: object, task: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(np.array(scores), np.array(labels), task, "ab")


def test_two_thousand_sequences_take_less_than_five_seconds() -> None:
    scores, labels = probabilities(2000, 5)
    started = time.process_time()
    evaluate(scores, labels, "classification", "abcde")
    assert time.process_time() - started < 5


@pytest.mark.parametrize("k", [2, 3])
def test_a_resample_is_worth_the_sequences_it_drew(k: int) -> None:
    drawn, labels = probabilities(80, k)
    names = [str(i) for i in range(k)]
    weights = draw_resamples(np.random.default_rng(1), 5, len(labels))
    found = evaluate_resamples(weights, drawn, labels, "classification", names)
    for i, row in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(labels)), row)
        expected = evaluate(drawn[rows], labels[rows], "classification", names, n_bootstrap=0)
        for name, estimate in expected.items():
            assert found[name][i] == pytest.approx(estimate.value, abs=1e-12)
