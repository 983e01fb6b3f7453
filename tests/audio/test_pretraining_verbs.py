"""From recordings without labels to a classifier of few labels, by the commands that a user has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from tones import CLASSES, RATE, tone, write_folder
from waveform_models import small_model

from audio.masked_model import MaskedWaveformModel
from audio.models import WaveformClassifier
from audio.results import Results
from seqmamba import from_pretrained
from seqmamba.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlabelled recordings of two rates and many lengths, a damaged one among them, and a labelled set."""
    place = tmp_path_factory.mktemp("few")
    (place / "any").mkdir()
    for number, hz in enumerate(list(CLASSES.values()) * 8):
        rate = RATE if number % 3 else 2 * RATE
        wave = tone(hz, 0.2 + 0.1 * (number % 5), number, rate, channels=1 + number % 2)
        soundfile.write(place / "any" / f"{number:02}.flac", wave, rate)
    (place / "any" / "damaged.wav").write_text("no sound")
    write_folder(place / "labelled")
    return place


@pytest.fixture(scope="module")
def pretrained(place: Path) -> str:
    run = str(place / "pretrained")
    words = ["audio", "fit", str(place / "any"), "--task", "masked", "-o", run, "--epochs", "2"]
    assert main([*words, "--d-model", "16", "--layers", "2", "--seconds", "0.4"]) == 0
    return run


def fit(place: Path, run: Path, *options: str) -> int:
    words = ["audio", "fit", str(place / "labelled"), "-o", str(run), "--epochs", "2", "--no-baselines"]
    return main([*words, *options])


def test_pretraining_takes_any_folder(place: Path, pretrained: str) -> None:
    model = from_pretrained(Path(pretrained) / "pretrained")
    assert isinstance(model, MaskedWaveformModel)
    assert model.config.rate == RATE
    recipe = yaml.safe_load((Path(pretrained) / "config.yaml").read_text())
    assert recipe["data"]["init_args"]["loading"]["crop_seconds"] == 0.4
    assert recipe["data"]["init_args"]["task"] == "unlabelled"
    results = yaml.safe_load((Path(pretrained) / "results.json").read_text())["test"]
    assert {"loss", "accuracy", "code_perplexity", "guess_perplexity"} == results.keys()
    assert results["code_perplexity"] > 2


def test_few_labels_from_a_pretrained_model(
    place: Path, pretrained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--labels-per-class", "3", "--labels-seed", "7"]
    assert fit(place, tmp_path / "run", "--init-from", pretrained, "--lr-decay", "0.8", *few) == 0
    said = capsys.readouterr()
    assert "note:   labels: 3 a class, 9 of" in said.out
    assert "seed 7" in said.out
    assert "backbone of" in said.err
    results = Results.load(tmp_path / "run" / "results.json")
    assert results.split.counts["train"] == dict.fromkeys(CLASSES, 3)
    assert results.model["backbone"]["d_model"] == 16
    assert any("labels: 3 a class" in note for note in results.notes)
    answers = tmp_path / "answers.tsv"
    assert main(["audio", "predict", str(tmp_path / "run"), str(place / "any"), "-o", str(answers)]) == 0
    assert answers.is_file()


@pytest.mark.parametrize("options", [["--freeze"], ["--lora-rank", "2"]])
def test_what_is_not_trained_stays_as_it_was(
    place: Path, pretrained: str, tmp_path: Path, options: list[str]
) -> None:
    assert fit(place, tmp_path / "run", "--init-from", pretrained, *options) == 0
    model, before = (from_pretrained(Path(run) / "pretrained") for run in (tmp_path / "run", pretrained))
    assert isinstance(model, WaveformClassifier)
    assert isinstance(before, MaskedWaveformModel)
    weights, old = model.backbone.state_dict(), before.backbone.state_dict()
    moved = {name for name in old if not np.array_equal(weights[name], old[name])}
    assert (moved == set()) == (options == ["--freeze"])
    assert all(name.endswith("proj.weight") for name in moved)
    stem, old = model.stem.state_dict(), before.stem.state_dict()
    assert all(np.array_equal(stem[name], old[name]) for name in old)


def test_a_generative_model_is_an_encoder_too(place: Path, tmp_path: Path) -> None:
    small_model("one width", rate=RATE).save_pretrained(tmp_path / "generator")
    options = ["--seconds", "0.05", "--crops", "2", "--set", "model.init_args.evaluation.bootstrap=10"]
    assert fit(place, tmp_path / "run", "--init-from", str(tmp_path / "generator"), *options) == 0
    model = from_pretrained(tmp_path / "run" / "pretrained")
    assert isinstance(model, WaveformClassifier)
    assert model.config.backbone.direction == "causal"
    events = str(tmp_path / "events.csv")
    file = str(place / "any" / "01.flac")
    assert main(["audio", "timeline", str(tmp_path / "run"), file, "-o", events]) == 0  # state carried


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init-from", "PRE", "--rate", "8000"], "rate: expected 4000 Hz, which the model in"),
        (["--init-from", "PRE", "--channels", "2"], "channels: expected 1, which the model in"),
        (["--init-from", "PRE", "--d-model", "8"], "--d-model: not used with --init-from"),
        (["--freeze"], "--freeze: needs --init-from"),
        (["--lr-decay", "0.5"], "--lr-decay: needs --init-from"),
        (["--init-from", "NOWHERE"], "NOWHERE"),
        (["--labels-per-class", "100"], "labels.per_class: expected at most"),
        (["--labels-per-class", "2", "--labels-share", "0.5"], "expected per_class or share, got both"),
        (["--task", "masked", "--pooling", "max"], "--pooling: is for classifiers"),
        (["--task", "masked", "--labels-per-class", "2"], "--labels-per-class: is for classifiers"),
        (["--task", "masked", "--init-from", "PRE"], "--init-from: is for classifiers"),
    ],
)
def test_mistakes_are_one_sentence(
    place: Path,
    pretrained: str,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [pretrained if word == "PRE" else word for word in options]
    arguments = ["audio", "fit", str(place / "labelled"), "-o", str(tmp_path / "run"), *words]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
