"""``audio fit --task generation``: from a folder of recordings to a generative model and its samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from tones import CLASSES, RATE, tone, write_folder

import seqmamba
from audio.generator_defaults import LONGEST_CPU, choose_generator
from audio.waveform_model import WaveformModel
from seqmamba.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
SMALL = ["--task", "generation", "--d-model", "8", "--layers", "1", "--batch-size", "8", "--seconds", "0.1"]
FEW = ["--epochs", "1", "--set", "trainer.limit_train_batches=8", "--set", "model.init_args.model.bits=6"]


def test_a_folder_of_classes_becomes_a_model_that_makes_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = write_folder(tmp_path / "tones"), tmp_path / "run"
    assert main(["audio", "fit", str(folder), "-o", str(run), *SMALL, *FEW]) == 0
    printed = capsys.readouterr().out
    assert "generation from 36 recordings of 3 classes" in printed
    assert "bits per sample" in printed
    assert json.loads((run / "results.json").read_text())["test"]["bits_per_sample"] < 6.5
    model = seqmamba.from_pretrained(run / "pretrained")
    assert isinstance(model, WaveformModel)
    assert model.config.classes == tuple(sorted(CLASSES))
    assert model.config.bits == 6
    made = sorted((run / "samples").rglob("*.wav"))
    assert [path.parent.name for path in made] == sorted(CLASSES)
    assert all(soundfile.info(path).samplerate == RATE for path in made)
    assert all(soundfile.info(path).frames == round(0.1 * RATE) for path in made)
    # what is there stays; a resumed run is tested and sampled again
    assert main(["audio", "fit", str(folder), "-o", str(run), *SMALL]) == 2
    assert main(["audio", "fit", "-o", str(run), "--resume"]) == 0


def test_recordings_without_labels_of_any_length_do(tmp_path: Path) -> None:
    folder, run = tmp_path / "flat", tmp_path / "run"
    folder.mkdir()
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", tone(300 + 20 * number, 1.0, number), RATE)
    soundfile.write(folder / "long.flac", tone(500, 70.0, 9), RATE)
    assert main(["audio", "fit", str(folder), "-o", str(run), *SMALL, *FEW]) == 0
    recipe = yaml.safe_load((run / "config.yaml").read_text())
    assert recipe["data"]["init_args"]["loading"]["cut_seconds"] == 30
    assert recipe["model"]["init_args"]["class_conditional"] is False
    assert len(list((run / "samples").glob("*.wav"))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pooling", "mean"], "--pooling: is for classifiers"),
        (["--mixing", "mixup"], "--mixing: is for classifiers"),
        (["--channels", "2"], "--channels: is for classifiers"),
        (["--rates", "2000"], "--rates"),
        (["--no-baselines"], "--no-baselines"),
    ],
)
def test_settings_of_classifiers_are_refused(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "tones")
    assert main(["audio", "fit", str(folder), "-o", str(tmp_path / "run"), *SMALL, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_choices_follow_the_recordings() -> None:
    short = {c.key.split(".")[-1]: c.value for c in choose_generator(np.full(100, 0.5), 8000, gpu=False)}
    assert short["samples"] >= 0.5 * 8000
    assert short["fill"] is True
    assert "class_conditional" not in short
    long = choose_generator(np.full(10, 600.0), 16_000, gpu=False, classes=3)
    chosen = {c.key.split(".")[-1]: c.value for c in long}
    assert chosen["samples"] == LONGEST_CPU
    assert "fill" not in chosen
    assert chosen["class_conditional"] is True
    assert chosen["passes"] == round(600 * 16_000 / LONGEST_CPU)
    gpu = {c.key.split(".")[-1]: c.value for c in choose_generator(np.full(10, 600.0), 16_000, gpu=True)}
    assert gpu["d_model"] > chosen["d_model"]
    assert gpu["cuda_graphs"] is True
