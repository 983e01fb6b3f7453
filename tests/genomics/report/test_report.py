from __future__ import annotations

import dataclasses
import html
import re
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic_runs as runs
from page_checks import check_page

from genomics.palette import LIGHT
from genomics.report import write_report
from genomics.results import Results
from seqmamba.errors import UserError
from seqmamba.predictions import Predictions


def check(folder: Path) -> tuple[str, str]:
    """Write a report, check what holds for every page, and return its source and its text."""
    start = time.perf_counter()
    path = write_report(folder)
    assert time.perf_counter() - start < 30, "a report takes seconds, also on a busy machine"
    assert path == folder / "report.html"
    page = path.read_text(encoding="utf-8")
    return page, check_page(page, colours=LIGHT, most_bytes=2_000_000)


def test_binary_page_has_every_section(tmp_path: Path) -> None:
    results = runs.classification(tmp_path)
    page, text = check(tmp_path)
    for title in (
        "Test results",
        "Compared with simple models",
        "Confusion matrix",
        "ROC",
        "Precision and recall",
        "Calibration",
        "Most certain mistakes",
        "What the model looks at",
        "Data and split",
        "Leak check",
        "Training",
        "Make it again",
    ):
        assert f">{title}<" in page, title
    accuracy = results.metrics["accuracy"]
    assert f"{accuracy.value:.3f}" in text
    assert f"{accuracy.low:.3f} to {accuracy.high:.3f}" in text
    assert results.command in text
    assert "seed_everything: 1" in text
    assert "torch 2.14.1" in text
    assert "No leak" in text


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    runs.classification(tmp_path, n=60)
    assert write_report(tmp_path).read_bytes() == write_report(tmp_path).read_bytes()


def test_user_text_is_escaped_everywhere(tmp_path: Path) -> None:
    evil = "</title></style><script>alert('x')</script>\"'&\x00"
    classes = ("<b>$x$</b>", "_{hidden} \\frac $")
    results = runs.classification(
        tmp_path, n=30, classes=classes, names=[f"{evil}{i}" for i in range(30)], title=evil, command=evil,
        leaks=runs.leaky(), skill=0.2, notes=[evil], hardware=evil, versions={evil: evil},
    )  # fmt: skip
    named = [dataclasses.replace(entry, name=evil) for entry in results.attributions]
    offenders = results.leaks | {"exact": [[evil, "test", evil, "train", 1.0]]}
    dataclasses.replace(results, attributions=named, leaks=offenders).save(tmp_path / "results.json")
    (tmp_path / "config.yaml").write_text(f"x: {evil}\n")
    page, text = check(tmp_path)
    assert "<script" not in page
    assert "alert('x')" in text
    assert html.escape(classes[1]) in page


def test_leaks_name_offenders(tmp_path: Path) -> None:
    runs.classification(tmp_path, n=40, leaks=runs.leaky(exact=30))
    _, text = check(tmp_path)
    assert "Do not trust these numbers yet" in text
    assert "copy_0" in text
    assert "chr8:150-350" in text
    assert text.count("copy_") == 10


@pytest.mark.parametrize("k", [3, 9, 50])
def test_many_classes(tmp_path: Path, k: int) -> None:
    classes = tuple(f"class_{i}" for i in range(k))
    runs.classification(tmp_path, n=4 * k, classes=classes, attributions=[])
    page, text = check(tmp_path)
    assert f"{k} classes" in text
    assert (">Confusion matrix<" in page) == (k <= 40)
    assert "Class by class" in text
    assert ("hardest of" in text) == (k > 8)


def test_multilabel(tmp_path: Path) -> None:
    runs.multilabel(tmp_path)
    page, text = check(tmp_path)
    assert "4 labels" in text
    assert "GATA1" in text
    assert ">Confusion matrix<" not in page


def test_regression(tmp_path: Path) -> None:
    runs.regression(tmp_path)
    _, text = check(tmp_path)
    assert "1 target" in text
    assert "log2 expression: predicted and true" in text
    assert "True 4.20, predicted log2 expression 3.970" in text
    assert "beats length and GC content alone" in text


@pytest.mark.parametrize("missing", ["predictions.tsv", "metrics.csv", "config.yaml"])
def test_missing_files_leave_their_part_out(tmp_path: Path, missing: str) -> None:
    runs.classification(tmp_path, n=40)
    (tmp_path / missing).unlink()
    check(tmp_path)


def test_nothing_but_a_title(tmp_path: Path) -> None:
    Results("Bare", "classification", ("a", "b")).save(tmp_path / "results.json")
    _, text = check(tmp_path)
    assert "No test results yet" in text


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_tiny_test_sets(tmp_path: Path, n: int, task: str) -> None:
    if task == "classification":
        runs.classification(tmp_path, n=n, skills={})
    else:
        {"multilabel": runs.multilabel, "regression": runs.regression}[task](tmp_path, n=n)
    _, text = check(tmp_path)
    assert "The test set is small." in text


def test_unlabelled_rows_are_left_out(tmp_path: Path) -> None:
    results = runs.classification(tmp_path, n=40)
    table = Predictions.load(tmp_path / "predictions.tsv", results.task, results.classes)
    labels = np.where(np.arange(40) < 10, -1, table.labels)
    dataclasses.replace(table, labels=labels).save(tmp_path / "predictions.tsv")
    page, _ = check(tmp_path)
    drawn = re.search(r"Confusion matrix: \d+ of (\d+) sequences", page)
    assert drawn is not None
    assert drawn[1] == "30"


def test_a_name_outside_the_font_is_drawn_without_warnings(tmp_path: Path) -> None:
    runs.classification(tmp_path, n=20, classes=("大肠杆菌", "枯草"))
    page, _ = check(tmp_path)
    assert "大肠杆菌" in page


def test_damaged_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: no such file"):
        write_report(tmp_path)
    runs.classification(tmp_path, n=20)
    with (tmp_path / "predictions.tsv").open("a") as table:
        table.write("cut\n")
    with pytest.raises(UserError, match=r"predictions.tsv:22: expected 6 columns"):
        write_report(tmp_path)
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"
