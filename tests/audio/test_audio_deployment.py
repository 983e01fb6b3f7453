"""A run made smaller, taught from, and shared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reported_runs import classification
from tones import CLASSES, write_folder

from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.report.card import USAGE, describe
from seqmamba.backbones import BackboneConfig
from seqmamba.cli.main import build_parser, main
from seqmamba.predictions import Predictions
from seqmamba.training.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
SMALL = ["--d-model", "16", "--layers", "1", "--d-state", "4", "--no-baselines", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("tones") / "set")


@pytest.fixture(scope="module")
def run(tones: Path) -> Path:
    run = tones.parent / "run"
    words = ["audio", "fit", str(tones), "-o", str(run), *SMALL, "--epochs", "1", "--seconds", "0.25"]
    assert main([*words, "--crops", "2"]) == 0
    return run


def predict(model: Path, tones: Path, output: Path) -> np.ndarray:
    assert main(["audio", "predict", str(model), str(tones), "-o", str(output), "--device", "cpu"]) == 0
    return Predictions.load(output, "classification", tuple(CLASSES)).outputs


def test_int8_weights_predict_and_are_shared_with_what_they_lose(
    run: Path, tones: Path, tmp_path: Path
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "small")]) == 0
    report = json.loads((tmp_path / "small" / "export.json").read_text())
    assert report["part"] in ("validation", "test")
    assert report["original"]["metrics"].keys() >= {"accuracy", "loss"}
    assert main(["push", str(tmp_path / "small"), str(tmp_path / "shared")]) == 0
    assert main(["pull", str(tmp_path / "shared"), str(tmp_path / "back")]) == 0
    whole = predict(run, tones, tmp_path / "whole.tsv")
    change = np.abs(predict(tmp_path / "back", tones, tmp_path / "small.tsv") - whole).max()
    assert 0 < change < 0.02
    card = (tmp_path / "back" / "README.md").read_text(encoding="utf-8")
    assert f"On the {report['part']} part:" in card
    assert "pipeline_tag: audio-classification" in card


def test_a_small_model_learns_what_a_large_one_answers(run: Path, tones: Path, tmp_path: Path) -> None:
    teacher = WaveformClassifier.from_pretrained(run / "pretrained")
    with torch.no_grad():
        teacher.head.linear.weight.zero_()
        teacher.head.linear.bias.copy_(torch.tensor([-3.0, -3.0, 3.0]))  # hears the same in everything
    teacher.save_pretrained(tmp_path / "teacher")
    words = ["audio", "fit", str(tones), "-o", str(tmp_path / "run"), *SMALL, "--epochs", "2", "--lr", "0.05"]
    words += ["--distil-from", str(tmp_path / "teacher"), "--mixing", "mixup"]
    assert main([*words, "--set", "model.init_args.distil_from.weight=1.0"]) == 0
    assert (predict(tmp_path / "run", tones, tmp_path / "out.tsv").argmax(axis=1) == 2).all()


def test_a_teacher_of_another_rate_is_refused(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = BackboneConfig(d_model=8, n_layers=1, direction="bidirectional")
    config = WaveformClassifierConfig(backbone, classes=tuple(CLASSES), rate=16_000)
    WaveformClassifier(config).save_pretrained(tmp_path / "teacher")
    words = ["audio", "fit", str(tones), "-o", str(tmp_path / "run"), *SMALL, "--epochs", "1"]
    assert main([*words, "--distil-from", str(tmp_path / "teacher")]) == 2
    assert "the rate of the model in" in capsys.readouterr().err


def test_a_card_knows_baselines_limits_and_the_sound(tmp_path: Path) -> None:
    results = classification(tmp_path / "run", notes=["One file could not be read."])
    domain = describe(RunFolder(tmp_path / "run"), "WaveformClassifier")
    assert domain.results == results
    assert domain.facts[0] == "8,000 Hz, channels: 1."
    assert domain.parameters == results.parameters
    assert any("One file could not be read." in finding.headline for finding in domain.findings)
    assert describe(RunFolder(tmp_path / "other"), "WaveformModel").results is None


def test_every_command_of_a_card_is_one() -> None:
    for lines in USAGE.values():
        for line in lines:
            build_parser().parse_args(line.split()[1:])
