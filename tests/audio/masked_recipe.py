"""A small recipe of masked pretraining, for tests."""

from __future__ import annotations

from pathlib import Path

import yaml
from tones import RATE, write_folder

BACKBONE = {"d_model": 8, "n_layers": 1, "d_state": 2, "direction": "bidirectional", "dropout": 0.1}
STEM = {"kernels": [16], "strides": [8], "widths": []}


def write_recipe(folder: Path, accelerator: str = "cpu") -> str:
    """Write a recipe of three epochs of recordings whose lengths and channels differ."""
    source = write_folder(folder / "set", per_class=6)
    content = {
        "model": {
            "class_path": "audio.pretraining_task.MaskedPretrainingTask",
            "init_args": {
                "model": {"backbone": BACKBONE, "stem": STEM, "targets": {"mels": 20, "codes": 8}},
                "masking": {"span_seconds": 0.02},
                "augmentation": {"speed": 1.1, "gain_db": 3.0},
                "optimiser": {"lr": 5e-3},
            },
        },
        "data": {
            "class_path": "audio.datasets.WaveformDataModule",
            "init_args": {
                "source": str(source),
                "task": "unlabelled",
                "loading": {"rate": RATE, "crop_seconds": 0.25, "batch_size": 4},
            },
        },
        "trainer": {"accelerator": accelerator, "max_epochs": 3, "enable_progress_bar": False},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)
