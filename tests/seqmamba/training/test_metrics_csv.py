from __future__ import annotations

from pathlib import Path

import pytest

from seqmamba.training.metrics_csv import MetricsCSV, read_rows


def log(path: Path, resume: int | None, *rows: tuple[int, dict[str, float]]) -> None:
    logger = MetricsCSV(path, resume)
    for step, metrics in rows:
        logger.log_metrics({"epoch": step // 2, **metrics}, step)


def test_columns_that_come_later_are_added(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(
        path, None, (0, {"train/loss": 0.5}), (1, {"val/loss": 0.25, "val/n": 3.0}), (2, {"train/loss": 1e-9})
    )
    assert path.read_text() == ("epoch,step,train/loss,val/loss,val/n\n0,0,0.5,,\n0,1,,0.25,3\n1,2,1e-09,,\n")


def test_a_resumed_run_drops_what_it_will_log_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, None, (0, {"a": 1}), (1, {"a": 2}), (2, {"b": 3}))
    with path.open("a") as file:
        file.write("1,3,")  # a row that a killed run had begun
    log(path, 2, (2, {"b": 4}))
    assert read_rows(path) == [
        {"epoch": "0", "step": "0", "a": "1"},
        {"epoch": "0", "step": "1", "a": "2"},
        {"epoch": "1", "step": "2", "b": "4"},
    ]


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, None, (0, {"a": 1}))
    log(path, None, (0, {"b": 2}))
    assert read_rows(path) == [{"epoch": "0", "step": "0", "b": "2"}]


def test_nothing_is_touched_before_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("kept")
    MetricsCSV(path)
    assert path.read_text() == "kept"


def test_values_that_are_no_numbers_survive(tmp_path: Path) -> None:
    log(tmp_path / "m.csv", None, (0, {"a": float("nan"), "b": float("inf")}))
    assert read_rows(tmp_path / "m.csv") == [{"epoch": "0", "step": "0", "a": "nan", "b": "inf"}]


def test_half_a_row_is_taken_back_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsCSV(path)
    logger.log_metrics({"epoch": 0, "a": 1}, 0)
    before = path.read_bytes()
    real_open = Path.open

    class Full:
        def __init__(self, file: object) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *args: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[:2])
            self.file.flush()
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(real_open(self, mode)))
    with pytest.raises(OSError, match="No space left on device") as caught:
        logger.log_metrics({"epoch": 0, "a": 2}, 1)
    assert caught.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
