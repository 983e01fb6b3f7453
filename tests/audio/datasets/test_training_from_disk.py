"""Recipes with the data module that reads from disk, in small, for each task that it serves."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from seqmamba.training.recipe import run_recipe
from seqmamba.training.run_folder import RunFolder

pytestmark = [
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]

RATE = 2_000
FRAME = 32
CLASSIFIER = {
    "backbone": {"d_model": 8, "n_layers": 1, "d_state": 4, "direction": "bidirectional"},
    "stem": {"kernels": [32, 4], "strides": [8, 4], "widths": [8]},
}
SETTINGS = {"model": CLASSIFIER, "optimiser": {"lr": 0.02}}
GENERATOR = {"network": {"d_model": 8, "n_layers": 1, "d_state": 4}, "bits": 4}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of two classes in folders, at two rates, and a table of when the high ones are heard."""
    folder = tmp_path_factory.mktemp("sounds")
    events = ["filename\tonset\toffset\tevent_label"]
    generator = np.random.default_rng(0)
    for number in range(24):
        rate = (RATE, 4_000)[number % 3 == 0]
        name = ("low", "high")[number % 2]
        time = np.arange(round(0.3 * rate) + number) / rate
        tone = 0.5 * np.sin(2 * np.pi * (60, 400)[number % 2] * time + number)
        tone += 0.01 * generator.standard_normal(len(tone))
        (folder / name).mkdir(exist_ok=True)
        soundfile.write(folder / name / f"{number}.wav", tone, rate)
        events.append(f"{name}/{number}.wav\t0\t0.3\t{name}")
    (folder / "events.tsv").write_text("\n".join(events) + "\n")
    return folder


def _fit(
    folder: Path, task: str, settings: dict[str, Any], data: dict[str, Any], epochs: int = 2
) -> RunFolder:
    recipe = {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": {"class_path": task, "init_args": settings},
        "data": {"class_path": "audio.datasets.WaveformDataModule", "init_args": data},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return run_recipe(["fit", "--config", str(path)]).folder


def _losses(folder: RunFolder, column: str) -> list[float]:
    with (folder.path / "metrics.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def test_a_classifier_from_crops_that_workers_read(sounds: Path, tmp_path: Path) -> None:
    loading = {"rate": RATE, "crop_seconds": 0.2, "batch_size": 4, "num_workers": 2, "storage": "disk"}
    data = {"source": str(sounds), "loading": loading}
    settings = SETTINGS | {"augmentation": {"shift_seconds": 0.01}}
    folder = _fit(tmp_path, "audio.tasks.WaveformTask", settings, data, 6)
    losses = _losses(folder, "train/loss")
    assert losses[-1] < losses[0]
    run_recipe(["test", "--config", str(folder.config), "--run", str(folder.path)])
    assert folder.results.is_file()
    assert folder.predictions.is_file()
    told = folder.predictions.read_text()
    folder.predictions.unlink()
    run_recipe(["predict", "--config", str(folder.config), "--run", str(folder.path)])
    rows = folder.predictions.read_text().splitlines()
    assert len(rows) == 1 + 24  # all recordings, not those of the test alone
    assert set(told.splitlines()) < set(rows)


def test_a_tagger(sounds: Path, tmp_path: Path) -> None:
    loading = {"rate": RATE, "frame": FRAME, "batch_size": 4}
    data = {"source": str(sounds / "events.tsv"), "task": "tagging", "loading": loading}
    folder = _fit(tmp_path, "audio.tasks.WaveformTask", SETTINGS, data, 4)
    losses = _losses(folder, "val/loss")
    assert losses[-1] < losses[0]


def test_a_generator_of_recordings_without_labels(sounds: Path, tmp_path: Path) -> None:
    data = {
        "source": str(sounds / "low"),
        "loading": {"rate": RATE, "cut_seconds": 0.1, "batch_size": 4},
    }
    settings = {"model": GENERATOR, "optimiser": {"lr": 0.02}, "augmentation": {"gain_db": 3}}
    folder = _fit(tmp_path, "audio.waveform_task.AutoregressiveTask", settings, data)
    losses = _losses(folder, "val/loss")
    assert all(map(math.isfinite, losses))
    assert losses[-1] < 4  # bits of a sample that nothing is known of
