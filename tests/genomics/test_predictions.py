from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqmamba.errors import UserError
from seqmamba.predictions import Predictions


def _classification() -> Predictions:
    return Predictions(
        task="classification",
        classes=("neg", "pos\tx"),
        names=["a", "b\tc\nd", '"quoted'],
        splits=["test", "train", "test"],
        labels=np.array([0, 1, -1]),
        outputs=np.array([[0.9, 0.1], [0.25, 0.75], [0.4, 0.6]]),
    )


def test_classification_round_trip(tmp_path: Path) -> None:
    table = _classification()
    path = table.save(tmp_path / "predictions.tsv")
    assert path.read_text().splitlines()[0] == "name\tsplit\tlabel\tprediction\tneg\tpos x"
    again = Predictions.load(path, table.task, table.classes)
    assert again.names == ["a", "b c d", '"quoted']
    assert again.labels.tolist() == [0, 1, -1]
    np.testing.assert_allclose(again.outputs, table.outputs)
    assert again.part("test").names == ["a", '"quoted']


def test_multilabel_round_trip(tmp_path: Path) -> None:
    labels = np.array([[1.0, 1.0], [0.0, 0.0], [np.nan, np.nan]])
    outputs = np.array([[0.9, 0.8], [0.1, 0.7], [0.2, 0.3]])
    table = Predictions("multilabel", ("x", "y"), ["a", "b", "c"], ["test"] * 3, labels, outputs)
    path = table.save(tmp_path / "p.tsv")
    assert path.read_text().splitlines()[1:] == [
        "a\ttest\tx;y\tx;y\t0.900000\t0.800000",
        "b\ttest\t-\ty\t0.100000\t0.700000",
        "c\ttest\t\t-\t0.200000\t0.300000",
    ]
    np.testing.assert_array_equal(Predictions.load(path, "multilabel", ("x", "y")).labels, labels)


def test_regression_round_trip(tmp_path: Path) -> None:
    labels = np.array([[1.5, -2.0], [np.nan, np.nan]])
    outputs = np.array([[1.25, -1e-9], [3e7, 0.0]])
    table = Predictions("regression", ("u", "v"), ["a", "b"], ["", ""], labels, outputs)
    again = Predictions.load(table.save(tmp_path / "p.tsv"), "regression", ("u", "v"))
    np.testing.assert_array_equal(again.labels, labels)
    np.testing.assert_allclose(again.outputs, outputs)


def test_an_empty_table_has_the_right_shapes(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("name\tsplit\tlabel\tprediction\ta\tb\tc\n")
    table = Predictions.load(tmp_path / "p.tsv", "classification", ("a", "b", "c"))
    assert table.outputs.shape == (0, 3)
    assert table.labels.shape == (0,)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\ttest\tneg\tneg\t0.5", r"p.tsv:2: expected 6 columns, got 5"),
        ("a\ttest\tother\tneg\t0.5\t0.5", r"p.tsv:2: expected a prediction, got 'other'"),
        ("a\ttest\tneg\tneg\t0.5\thigh", r"p.tsv:2: expected a prediction"),
    ],
)
def test_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "p.tsv").write_text(f"name\tsplit\tlabel\tprediction\tneg\tpos\n{line}\n")
    with pytest.raises(UserError, match=message):
        Predictions.load(tmp_path / "p.tsv", "classification", ("neg", "pos"))
