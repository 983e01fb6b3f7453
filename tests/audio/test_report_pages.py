"""Pages of classifiers, one or many of them; see the other `test_report` files for the other pages."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
import reported_runs as runs

from audio.report import write_report
from audio.results import Results
from seqmamba.cli.main import main
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate

EVIL = "<script>alert(1)<!-- \"'&\u202egnp.\x07"


def test_a_classifier(tmp_path: Path) -> None:
    results = runs.classification(tmp_path / "run")
    page, text = runs.draw(tmp_path / "run")
    for title in (
        *("Test results", "Compared with simple models", "At other sampling rates", "Confusion matrix"),
        *("ROC", "Calibration", "Class by class", "Worst recordings", "Best recordings"),
        *("Data and settings", "Settings", "Inventory", "Split", "Training", "Loss", "Make it again"),
    ):
        assert f">{title}<" in page, title
    accuracy = results.metrics["accuracy"]
    assert f"{accuracy.low:.3f} to {accuracy.high:.3f}" in text
    assert "a linear model of log-mel statistics" in text
    assert "24 files, 0 cannot be read" in text
    assert "Learning rate0.002" in text
    assert results.command in text
    assert {(round(seconds, 3), rate) for seconds, rate, _ in runs.players(page)} == {(0.3, runs.RATE)}
    assert len(runs.pictures(page)) == len(runs.players(page))
    assert all(picture.startswith(b"\x89PNG") for picture in runs.pictures(page))


def test_the_worst_are_wrong_and_the_best_are_right(tmp_path: Path) -> None:
    runs.classification(tmp_path / "run", n=40)
    page, _ = runs.draw(tmp_path / "run", clips=3)
    worst, best = page.split(">Best recordings<")
    worst = worst.split(">Worst recordings<")[1]
    assert worst.count(">wrong</span>") == 3
    assert ">right</span>" not in worst
    assert best.count(">right</span>") == 3
    assert ">wrong</span>" not in best
    trues = [part.split("</bdi>")[0] for part in best.split("True <bdi>")[1:]]
    assert sorted(trues) == ["dog", "rain", "siren"], "of every class in turn"


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    runs.classification(tmp_path / "run", n=9)
    assert runs.draw(tmp_path / "run") == runs.draw(tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "n"), [("multilabel", 24), ("multilabel", 3), ("regression", 24), ("regression", 1)]
)
def test_other_tasks(tmp_path: Path, task: str, n: int) -> None:
    runs.classification(tmp_path / "run", task=task, n=n)
    page, text = runs.draw(tmp_path / "run")
    assert "Best recordings" in text
    assert runs.players(page)
    if task == "regression":
        assert "dog: true " in text
        assert (n > 1) == ("Worst recordings" in text)
    else:
        assert re.search("True (nothing|dog|rain|siren)(, (rain|siren))*, predicted ", text)


def test_a_tagger_has_scores_and_no_recordings(tmp_path: Path) -> None:
    results = runs.classification(tmp_path / "run")
    (tmp_path / "run" / "predictions.tsv").unlink()
    scores = {"frame_f1": Estimate(0.8, 0.7, 0.9), "event_f1": Estimate(0.6, 0.5, 0.7)}
    replace(results, task="tagging", metrics=scores, baselines={}, rates={}).save(
        tmp_path / "run/results.json"
    )
    _, text = runs.draw(tmp_path / "run")
    assert "F1 of events" in text
    assert "Tagging over time, 3 labels" in text


def test_user_text_is_escaped_everywhere(tmp_path: Path) -> None:
    classes = (f"{EVIL}</title></style>", "<b>$x$</b>", "_{hidden} \\frac $")
    # what is in file names and in labels stands in every kind of text: titles, alternatives, tables, figures
    names = [f"{EVIL}{i}.wav" for i in range(9)]
    runs.classification(
        tmp_path / "run", classes=classes, names=names, command=EVIL, hardware=EVIL, notes=[EVIL],
        versions={EVIL: EVIL}, rates={EVIL: {"accuracy": Estimate(0.5, 0.4, 0.6)}},
    )  # fmt: skip
    page, text = runs.draw(tmp_path / "run")
    assert runs.players(page), "files of such names are found"
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x07" not in page
    assert html.escape("<b>$x$</b>") in page
    assert EVIL.replace("\u202e", "\ufffd").replace("\x07", "\ufffd") in text
    runs.generated(tmp_path / "made", labels=(EVIL,), model=EVIL, command=EVIL)
    page, _ = runs.draw(tmp_path / "made")
    assert "<script" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize("missing", ["predictions.tsv", "metrics.csv", "config.yaml"])
def test_missing_files_leave_their_part_out(tmp_path: Path, missing: str) -> None:
    runs.classification(tmp_path / "run", n=9, baselines={}, rates={})
    (tmp_path / "run" / missing).unlink()
    page, text = runs.draw(tmp_path / "run")
    assert "Compared with simple models" not in text
    assert ("Best recordings" in text) == (missing != "predictions.tsv")
    assert (">Training<" in page) == (missing != "metrics.csv")
    assert ("Inventory" in text) == (missing != "config.yaml")


def test_a_run_that_was_not_tested(tmp_path: Path) -> None:
    runs.classification(tmp_path / "run", n=9)
    for name in ("results.json", "predictions.tsv"):
        (tmp_path / "run" / name).unlink()
    _, text = runs.draw(tmp_path / "run")
    assert "No test results yet" in text
    assert "Learning rate" in text


def test_nothing_but_classes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    Results("classification", ("a", "b")).save(tmp_path / "run/results.json")
    _, text = runs.draw(tmp_path / "run")
    assert "No test results yet" in text


def test_recordings_that_are_gone_or_have_moved(tmp_path: Path) -> None:
    runs.classification(tmp_path / "run", n=9)
    (tmp_path / "sounds").rename(tmp_path / "elsewhere")
    page, text = runs.draw(tmp_path / "run")
    assert not runs.players(page)
    assert "recordings not found, for example" in text
    assert "were not looked at again" in text
    assert "00.wav" in text, "they are named all the same"
    page, text = runs.draw(tmp_path / "run", clips=6, recordings=(tmp_path / "elsewhere",))
    assert len(runs.players(page)) == 9
    assert "not found" not in text


def test_damage_is_one_sentence_on_the_page_or_an_error(tmp_path: Path) -> None:
    runs.classification(tmp_path / "run", n=4)
    for i in range(2):
        (tmp_path / f"sounds/{i:02}.wav").write_bytes(b"no sound")
    page, text = runs.draw(tmp_path / "run", clips=4)
    assert "is not a recording that can be read" in text
    assert len(runs.players(page)) == 2
    with (tmp_path / "run/predictions.tsv").open("a") as table:
        table.write("cut\n")
    with pytest.raises(UserError, match=r"predictions.tsv:6: expected 7 columns"):
        write_report(tmp_path / "run")
    (tmp_path / "run/results.json").write_text("{")
    with pytest.raises(UserError, match="expected JSON results"):
        write_report(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*")), "nothing half-written stays"


def test_a_cross_validation(tmp_path: Path) -> None:
    runs.cross_validation(tmp_path / "cv")
    page, text = runs.draw(tmp_path / "cv")
    assert "3 held-out folds" in text
    assert "Every fold held out in turn" in text
    assert page.count('<th scope="row"><bdi>2</bdi></th>') == 2  # a fold, with each of two seeds
    assert "27 tested recordings" in text
    assert "Standard deviation of the means" in text
    assert "A linear model of log-mel statistics: 0.300" in text
    assert runs.players(page)
    (tmp_path / "cv/runs/0_seed1/results.json").unlink()
    assert "2 held-out folds" in runs.draw(tmp_path / "cv")[1]


def test_a_cross_validation_without_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("[]")
    assert "No run is finished." in runs.draw(tmp_path)[1]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.classification(tmp_path / "run", n=9)
    words = ["audio", "report", str(tmp_path / "run")]
    output = tmp_path / "pages" / "page.html"
    assert main([*words, "-o", str(output), "--clips", "1", "--clip-seconds", "0.1"]) == 0
    assert f"report: {output}" in capsys.readouterr().out
    assert main([*words, "-o", str(output)]) == 2
    assert f"{output}: exists already" in capsys.readouterr().err
    page = output.read_text()
    assert [round(seconds, 3) for seconds, _, _ in runs.players(page)] == [0.1, 0.1]
    assert "Here the first 0.1 of 0.3 s." in page
    for wrong, message in (
        (["audio", "report", str(tmp_path / "nope")], "no such file or folder"),
        (["audio", "report", str(tmp_path)], "expected a run folder"),
        ([*words, "--clips", "-1"], "clips: expected a whole number >= 0"),
        ([*words, "--recordings", "nope"], "--recordings nope: no such file or folder"),
        ([*words, "--events", "x.csv"], "--events: belongs to a timeline"),
        ([*words, "-o", str(tmp_path)], "is a folder, expected the name of a page"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
    assert main([*words, "-o", str(output), "--clips", "0", "--overwrite"]) == 0
    assert runs.players(output.read_text()) == []
    for _ in range(2):  # the page of the run itself is drawn anew
        assert main([*words, "--clips", "0"]) == 0
