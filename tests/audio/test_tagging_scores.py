"""Scores of taggers: counts by hand, and what a test run writes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from audio.batches import WaveformBatch
from audio.event_metrics import Tolerance
from audio.events import EventConfig
from audio.models import WaveformClassifier, WaveformClassifierConfig
from audio.results import Results
from audio.tagging_scores import SCORES, count_tags, sum_up
from audio.tasks import WaveformTask
from seqmamba.errors import UserError
from seqmamba.training.recipe import run_recipe

RATE, FRAME = 2_000, 32
CLASSES = ("bark", "meow")


def counts(found, true, events=EventConfig(), tolerance=Tolerance(0.05, offset_share=None)):  # noqa: B008
    found, true = (np.array(rows, dtype=np.float64).T for rows in (found, true))
    return count_tags(found, true, CLASSES, 0.1, events, tolerance).tolist()


def test_frames_and_events_by_hand():
    true = [[0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]]
    found = [[0, 0.9, 0.6, 0.4, 0.7, 0.1], [0, 0, 0.8, 0, 0, 0]]
    # frames: bark 3 of 4, one meow too many; events: with hysteresis the two barks are one
    assert counts(found, true) == [[6, 2], [4 + 4, 2 + 2]]
    apart = EventConfig(enter=0.5, leave=0.5)
    assert counts(found, true, apart) == [[6, 4], [8, 2 + 3]]
    late = [[0, 0, 0.6, 0, 0.7, 0.1], [0] * 6]
    assert counts(late, true, apart) == [[4, 2], [2 + 4, 2 + 2]]
    assert counts(late, true, apart, Tolerance(0.1, offset_share=None)) == [[4, 4], [6, 4]]


def test_scores_add_up_over_recordings():
    parts, wholes = np.array([[2.0, 0.0], [4.0, 0.0]]), np.array([[4.0, 0.0], [4.0, 0.0]])
    scores = sum_up(parts, wholes, SCORES)
    assert scores["frame_f1"].value == 0.75
    assert (scores["frame_f1"].low, scores["frame_f1"].high) == (0.5, 1.0)
    assert math.isnan(scores["event_f1"].value)  # nothing is there and nothing found
    assert math.isnan(sum_up(parts, wholes, SCORES, n_bootstrap=0)["frame_f1"].low)


@pytest.fixture(scope="module")
def beeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of several lengths with a high tone somewhere, and a table of when."""
    folder = tmp_path_factory.mktemp("beeps")
    rows = ["filename\tonset\toffset\tevent_label\tsplit"]
    generator = np.random.default_rng(0)
    for number in range(30):
        start, seconds = 0.1 + 0.01 * number, 0.6 + 0.01 * number
        time = np.arange(round(seconds * RATE)) / RATE
        wave = 0.01 * generator.standard_normal(len(time))
        wave += 0.5 * np.sin(2 * np.pi * 400 * time) * ((time >= start) & (time < start + 0.15))
        soundfile.write(folder / f"{number}.wav", wave, RATE)
        part = ("train", "train", "validation", "test")[number % 4]
        rows.append(f"{number}.wav\t{start}\t{start + 0.15}\tbeep\t{part}")
    (folder / "events.tsv").write_text("\n".join(rows) + "\n")
    return folder


def recipe(folder: Path, source: Path, **evaluation: object) -> Path:
    content = {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": {
            "class_path": "audio.tasks.WaveformTask",
            "init_args": {
                "model": {
                    "backbone": {"d_model": 16, "n_layers": 1, "d_state": 4, "direction": "bidirectional"},
                    "stem": {"kernels": [32, 4], "strides": [8, 4], "widths": [16]},
                },
                "optimiser": {"lr": 0.02},
                "evaluation": {"bootstrap": 50, **evaluation},
            },
        },
        "data": {
            "class_path": "audio.datasets.WaveformDataModule",
            "init_args": {
                "source": str(source / "events.tsv"),
                "task": "tagging",
                "loading": {"rate": RATE, "frame": FRAME, "batch_size": 4, "passes": 4},
            },
        },
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
def test_a_test_run_scores_a_tagger(beeps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, beeps, tolerance={"onset": 0.05, "offset_share": None})
    folder = run_recipe(["fit", "--config", str(path)]).folder
    run_recipe(["test", "--config", str(folder.config), "--run", str(folder.path)])
    results = Results.load(folder.results)
    assert (results.task, results.classes) == ("tagging", ("beep",))
    assert list(results.metrics) == list(SCORES)
    for score in results.metrics.values():
        assert 0.8 < score.low <= score.value <= score.high <= 1
    assert results.split.counts["test"] == {"beep": 7}
    assert results.baselines == {}
    assert not folder.predictions.exists()
    assert "event_f1" in capsys.readouterr().out


def test_a_tagger_predicts_no_recordings() -> None:
    task = WaveformTask()
    task.model = WaveformClassifier(WaveformClassifierConfig(task="tagging", classes=("beep",)))
    batch = WaveformBatch(
        torch.zeros(1, 800, 1), torch.tensor([800]), torch.zeros(1, 7, 1), torch.tensor([0])
    )
    with pytest.raises(UserError, match="tags frames, not recordings"):
        task.predict_step(batch, 0)


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_a_tagger_is_not_tested_at_other_rates(beeps: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluation\.rates: expected none for tagging"):
        run_recipe(["fit", "--config", str(recipe(tmp_path, beeps, rates=[1000]))])
