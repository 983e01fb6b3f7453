"""Training on recordings that stops in the middle of an epoch and goes on with other ranks and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from ranks import seqmamba_on_ranks
from resumed_runs import assert_goes_on

pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)
RATE = 1000


def recipe(folder: Path) -> Path:
    """Two epochs of five steps of four crops, with a checkpoint every two."""
    generator = np.random.default_rng(0)
    (folder / "sounds").mkdir()
    for number in range(30):
        noise = 0.1 * generator.standard_normal(200 + number)
        soundfile.write(folder / "sounds" / f"{number:02}.wav", noise, RATE)
    name = "seqmamba.training.step_checkpoint.StepCheckpoint"
    content = {
        "model": {
            "class_path": "audio.waveform_task.AutoregressiveTask",
            "init_args": {
                "model": {"network": {"d_model": 8, "n_layers": 1, "d_state": 2}, "bits": 4},
                "optimiser": {"lr": 0.01},
            },
        },
        "data": {
            "class_path": "audio.datasets.WaveformDataModule",
            "init_args": {
                "source": str(folder / "sounds"),
                "loading": {"rate": RATE, "crop_seconds": 0.1, "storage": "disk"},
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "log_every_n_steps": 1,
            "callbacks": [
                {"class_path": name, "init_args": {"every_n_steps": 2}},
                {"class_path": "ranks.KeepSteps"},
            ],
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def fit(config: Path, run: str, ranks: int, batch_size: int, *words: str) -> Path:
    """Train on ranks and return the run folder."""
    folder, log = config.parent / run, config.parent / f"{run}.log"
    size = ["--data.init_args.loading.batch_size", str(batch_size), "--trainer.devices", str(ranks)]
    command = ["fit", "--config", str(config), "-o", str(folder), *size, *words]
    assert seqmamba_on_ranks(ranks, command, log) == [0] * ranks, log.read_text()
    return folder


def test_an_epoch_begun_with_accumulated_gradients_ends_on_two_ranks(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    whole = fit(config, "whole", 1, 2, "--trainer.accumulate_grad_batches", "2")
    two = fit(config, "two", 2, 2, "--ckpt_path", str(whole / "step7.ckpt"))
    assert_goes_on(two, whole, 7)


@pytest.mark.slow
def test_recordings_of_unlike_length_go_over_one_two_and_four_ranks(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    loading = "--data.init_args.loading."
    uncut = (f"{loading}crop_seconds", "null")
    whole = fit(config, "whole", 1, 4, *uncut)
    workers = (f"{loading}num_workers", "3")
    two = fit(config, "two", 2, 2, "--ckpt_path", str(whole / "step2.ckpt"), *uncut, *workers)
    assert_goes_on(two, whole, 2)
    four = fit(config, "four", 4, 1, "--ckpt_path", str(two / "step7.ckpt"), *uncut)
    assert_goes_on(four, whole, 7)
