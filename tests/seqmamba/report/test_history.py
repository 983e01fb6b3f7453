from __future__ import annotations

from pathlib import Path

import pytest
from logged_curves import metrics_csv

from seqmamba.report.history import read_history


def test_curves_lie_over_epochs(tmp_path: Path) -> None:
    metrics_csv(tmp_path, epochs=6)
    history = read_history(tmp_path / "metrics.csv")
    assert [line.label for line in history.losses] == ["training", "validation"]
    training, validation = history.losses
    assert len(training.x) == 24
    assert validation.x.tolist() == [1, 2, 3, 4, 5, 6]
    assert training.x[3] == pytest.approx(1.0)
    assert {line.label for line in history.scores} == {"Accuracy", "MCC", "AUROC"}
    assert history.best_epoch in validation.x


def test_a_test_row_does_not_stretch_the_epochs(tmp_path: Path) -> None:
    text = "epoch,step,train/loss,val/loss,test/accuracy\n0,10,0.5,0.6,\n1,20,0.4,0.5,\n2,20,,,0.9\n"
    (tmp_path / "m.csv").write_text(text)
    assert read_history(tmp_path / "m.csv").losses[0].x.tolist() == [1, 2]


@pytest.mark.parametrize("text", ["", "epoch,step\n", "epoch,step,train/loss\n0,5,nan\n", "a,b\nx,y\n"])
def test_no_curves(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    history = read_history(tmp_path / "m.csv")
    assert (history.losses, history.scores, history.best_epoch) == ([], [], None)
    assert read_history(tmp_path / "missing.csv").losses == []
