"""fit, predict and evaluate, from a folder to a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tones import CLASSES, RATE, tone, write_folder

from audio.results import Results
from seqmamba.cli.main import main
from seqmamba.predictions import Predictions

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("tones") / "set")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    run = folder.parent / "run"
    words = ["audio", "fit", str(folder), "-o", str(run), "--epochs", "4", "--d-model", "16", "--layers", "1"]
    assert main([*words, "--seconds", "0.25", "--crops", "3", "--no-baselines"]) == 0
    return run


def test_fit_prints_what_it_chose_and_learns(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Results.load(run / "results.json").metrics["accuracy"].value > 0.8
    assert main(["audio", "fit", str(folder), "-o", str(tmp_path / "dry"), "--dry-run", "--lr", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "task:   classification of 36 recordings (high: 12, low: 12, middle: 12)" in out
    assert "4,000 Hz" in out
    assert "model.init_args.optimiser.lr" in out
    assert "given" in out
    assert "class_path: audio.tasks.WaveformTask" in out
    assert not (tmp_path / "dry").exists()
    words = ["audio", "fit", str(folder), "-o", str(tmp_path / "dry"), "--dry-run"]
    assert main([*words, "--set", "data.init_args.split.test_share=0.5"]) == 0
    assert "test        high: 6, low: 6, middle: 6\n" in capsys.readouterr().out  # of 12: what is going to be
    assert main([*words, "--set", "data.init_args.split.by=none"]) == 2
    assert "split: leaves nothing to train on" in capsys.readouterr().err


def test_a_run_is_not_replaced_by_accident_and_can_go_on(
    folder: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audio", "fit", str(folder), "-o", str(run)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["audio", "fit", "-o", str(run), "--resume"]) == 0


def test_predict_reads_anything_reports_what_it_cannot_and_goes_on(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, hz in CLASSES.items():
        soundfile.write(source / f"{name}.wav", tone(hz, 0.4, 7), RATE)
        soundfile.write(source / f"{name}_fast.flac", tone(hz, 0.4, 8, rate=11_025, channels=2), 11_025)
        soundfile.write(source / f"{name}_long.ogg", tone(hz, 20, 9), RATE)
    (source / "text.wav").write_text("this is no sound")
    (source / "empty.flac").touch()
    (source / "notes.txt").write_text("not looked at")
    output = tmp_path / "out.tsv"
    words = ["audio", "predict", str(run), str(source), "-o", str(output), "--batch-size", "3"]
    assert main(words) == 0
    table = Predictions.load(output, "classification", tuple(CLASSES))
    assert len(table) == 9
    found = {
        Path(name).stem.split("_")[0]: tuple(CLASSES)[i]
        for name, i in zip(table.names, table.outputs.argmax(1), strict=True)
    }
    assert np.mean([name == label for name, label in found.items()]) == 1
    listed = (tmp_path / "out.unreadable.tsv").read_text()
    assert "text.wav" in listed
    assert "empty.flac" in listed
    assert "skipped 2 files" in capsys.readouterr().err
    # what is there stays, unless it may be replaced; batches do not matter
    assert main(words) == 2
    first = output.read_bytes()
    assert main([*words[:-1], "4", "--overwrite"]) == 0
    assert Predictions.load(output, "classification", tuple(CLASSES)).names == table.names
    assert np.allclose(
        Predictions.load(output, "classification", tuple(CLASSES)).outputs, table.outputs, atol=1e-5
    )
    assert len(first) == len(output.read_bytes())
    assert main([*words, "--resume"]) == 0
    assert "finished before" in capsys.readouterr().err


def test_an_interrupted_table_goes_on(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["audio", "predict", str(run), str(folder / "low"), "-o"]
    assert main([*words, str(tmp_path / "whole.tsv"), "--batch-size", "5"]) == 0
    from audio import file_answers

    load, calls = file_answers.load, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return load(*args, **kwargs)

    monkeypatch.setattr(file_answers, "load", interrupted)
    broken = [*words, str(tmp_path / "broken.tsv"), "--batch-size", "5"]
    assert main(broken) == 130
    assert not (tmp_path / "broken.tsv").exists()
    assert main([*broken, "--resume"]) == 0
    assert len(calls) == 8 + 7  # five were kept
    assert (tmp_path / "broken.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def test_stopping_at_a_bad_file_leaves_no_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_text("no sound")
    words = [
        "audio",
        "predict",
        str(run),
        str(tmp_path),
        "-o",
        str(tmp_path / "out.tsv"),
        "--on-error",
        "stop",
    ]
    assert main(words) == 2
    assert "bad.wav" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.tsv"))


def test_evaluate_gives_the_metrics_of_a_folder_at_several_rates(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "audio",
        "evaluate",
        str(run),
        str(folder),
        "--rates",
        "2000",
        "--bootstrap",
        "20",
        "--crops",
        "2",
    ]
    assert main([*words, "-o", str(tmp_path / "m.json")]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["4000 Hz"]["accuracy"]["value"] > 0.9
    assert metrics["2000 Hz, filtered, frames"]["accuracy"]["value"] > 0.8
    out = capsys.readouterr().out
    assert "4,000 Hz, 36 recordings\n" in out
    assert "balanced_accuracy" in out
    assert "2000 Hz, filtered, frames: accuracy" in out
    before = (tmp_path / "m.json").read_bytes()
    assert main([*words, "-o", str(tmp_path / "m.json")]) == 2
    assert "m.json: exists already" in capsys.readouterr().err
    assert (tmp_path / "m.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "-o", "RUN"], "FOLDER: expected a folder of recordings"),
        (["fit", "FOLDER", "-o", "RUN", "--lr", "-1"], "--lr: expected a positive number"),
        (["fit", "FOLDER", "-o", "RUN", "--test", "me"], "the data have neither"),
        (["fit", "FOLDER/low", "-o", "RUN"], "have no labels"),
        (["fit", "MISSING", "-o", "RUN"], "MISSING"),
        (["predict", "MODEL", "MISSING", "-o", "x.tsv"], "MISSING"),
        (["evaluate", "MODEL", "FOLDER", "--pattern", "(?P<label>.).*"], "is no class"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str],
    message: str,
    run: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": tmp_path / "run", "FOLDER": folder, "FOLDER/low": folder / "low", "MODEL": run}
    assert main(["audio", *(str(places.get(word, word)) for word in words)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
