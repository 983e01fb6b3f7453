"""Training on a folder, testing, and what a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from tones import CLASSES, RATE, tone, write_folder

import seqmamba
from audio.results import Results
from seqmamba.errors import UserError
from seqmamba.predictions import Predictions
from seqmamba.training.recipe import run_recipe
from seqmamba.training.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

MODEL = {
    "backbone": {"d_model": 16, "n_layers": 1, "d_state": 4, "direction": "bidirectional"},
    "stem": {"kernels": [32, 4], "strides": [8, 4], "widths": [16]},
}


def recipe(
    folder: Path,
    source: Path,
    *,
    task: dict[str, Any] | None = None,
    passes: int = 1,
    data: dict[str, Any] | None = None,
) -> Path:
    content = {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": {
            "class_path": "audio.tasks.WaveformTask",
            "init_args": {"model": MODEL, "optimiser": {"lr": 0.01}, **(task or {})},
        },
        "data": {
            "class_path": "audio.datasets.WaveformDataModule",
            "init_args": {
                "source": str(source),
                "loading": {"batch_size": 8, "passes": passes},
                **(data or {}),
            },
        },
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def fit_and_test(path: Path) -> RunFolder:
    folder = run_recipe(["fit", "--config", str(path)]).folder
    run_recipe(["test", "--config", str(folder.config), "--run", str(folder.path)])
    return folder


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("tones") / "set")


def test_a_folder_is_learned_tested_and_reported(tones: Path, tmp_path: Path) -> None:
    evaluation = {"bootstrap": 50, "rates": [2000]}
    path = recipe(tmp_path, tones, task={"evaluation": evaluation}, passes=4)
    folder = fit_and_test(path)
    results = Results.load(folder.results)
    assert results.classes == tuple(CLASSES)
    assert results.metrics["accuracy"].value > 0.8
    assert results.metrics["accuracy"].low <= results.metrics["accuracy"].value
    assert results.baselines["log_mel"].metrics["accuracy"].value > 0.8
    assert results.data.per_class == dict.fromkeys(CLASSES, 12)
    assert results.data.rate == RATE
    assert sum(results.split.counts["test"].values()) + sum(results.split.counts["train"].values()) < 37
    names = [
        f"2000 Hz, {how}, {way}"
        for how in ("decimated", "filtered")
        for way in ("unaware", "frames", "steps", "resampled")
    ]
    assert list(results.rates) == names
    table = Predictions.load(folder.predictions, results.task, results.classes)
    assert len(table) == sum(results.split.counts["test"].values())
    assert np.mean(table.outputs.argmax(1) == table.labels) == results.metrics["accuracy"].value
    model = seqmamba.from_pretrained(folder.pretrained)
    assert model.config.rate == RATE
    assert model.config.crop_length is None
    json.loads(folder.results.read_text())


def test_cuts_mixes_and_an_average_of_the_weights_without_validation(tones: Path, tmp_path: Path) -> None:
    task = {
        "augmentation": {"seconds": 0.25, "speed": 1.05, "gain_db": 6, "polarity": True},
        "mixing": {"kind": "between_class", "share": 0.5},
        "label_smoothing": 0.05,
        "crops": 3,
        "evaluation": {"bootstrap": 0, "baselines": False},
    }
    path = recipe(tmp_path, tones, task=task, passes=8, data={"split": {"validation": []}})
    content = yaml.safe_load(path.read_text())
    content["trainer"]["callbacks"] = [
        {"class_path": "seqmamba.training.ema.WeightAverage", "init_args": {"decay": 0.95}}
    ]
    path.write_text(yaml.safe_dump(content))
    folder = fit_and_test(path)
    results = Results.load(folder.results)
    assert results.metrics["accuracy"].value > 0.8
    assert results.split.counts["validation"] == dict.fromkeys(CLASSES, 0)
    assert seqmamba.from_pretrained(folder.pretrained).config.crop_length == RATE // 4
    best = torch.load(folder.best, weights_only=True)["state_dict"]
    last = torch.load(folder.last, weights_only=True)["state_dict"]
    assert any(not torch.equal(best[name], last[name]) for name in best)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_tables_with_several_labels_or_numbers(task: str, tmp_path: Path) -> None:
    rows = ["path,labels"] if task == "multilabel" else ["path,label"]
    for i in range(30):
        low, high = i % 2 == 0, i % 3 == 0
        hz = 200 + 20 * i
        wave = (
            low * tone(200, 0.25, i) + high * tone(900, 0.25, i)
            if task == "multilabel"
            else tone(hz, 0.25, i)
        )
        soundfile.write(tmp_path / f"{i}.wav", 0.5 * wave + 1e-3, RATE)
        names = ";".join(name for name, there in (("low", low), ("high", high)) if there)
        rows.append(f"{i}.wav,{names if task == 'multilabel' else hz}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    path = recipe(tmp_path, table, task={"evaluation": {"bootstrap": 10}}, passes=6, data={"task": task})
    results = Results.load(fit_and_test(path).results)
    assert results.task == task
    key = "auprc" if task == "multilabel" else "pearson"
    assert results.metrics[key].value > 0.7
    assert key in results.baselines["log_mel"].metrics


def test_classes_of_a_recipe_must_be_those_of_the_data(tones: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, tones, task={"model": {**MODEL, "classes": ["cat", "dog"]}})
    with pytest.raises(UserError, match="the recipe says classification of cat, dog"):
        run_recipe(["fit", "--config", str(path)])
