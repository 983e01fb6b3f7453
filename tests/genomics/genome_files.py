"""Small genomes with repeats and gaps for tests of pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml


def write_genome(
    path: Path,
    chromosomes: tuple[str, ...] = ("chr1", "chr2", "chr3"),
    length: int = 2_000,
    seed: int = 0,
    gap: bool = True,
) -> Path:
    """Write chromosomes whose second quarter is in lower case and whose third begins with 150 N."""
    rng = np.random.default_rng(seed)
    with path.open("w") as out:
        for name in chromosomes:
            bases = "".join(rng.choice(list("ACGT"), size=length))
            quarter = length // 4
            repeat = bases[quarter : 2 * quarter].lower()
            unknown = "N" * 150 if gap else ""
            text = bases[:quarter] + repeat + unknown + bases[2 * quarter + len(unknown) :]
            lines = [text[start : start + 60] for start in range(0, length, 60)]
            out.write(f">{name}\n" + "\n".join(lines) + "\n")
    return path


def write_pretraining_recipe(
    folder: Path, genome: dict[str, Any], windows: dict[str, Any], callbacks: list[dict[str, Any]]
) -> Path:
    """Write a recipe of two epochs of masked pretraining with a tiny model, on a genome made beside it."""
    backbone = {"d_model": 8, "n_layers": 2, "d_state": 2, "direction": "bidirectional"}
    content = {
        "model": {
            "class_path": "genomics.pretraining_task.PretrainingTask",
            "init_args": {
                "model": {"backbone": {**backbone, "scan_impl": "chunked"}},
                "optimiser": {"lr": 5e-3},
            },
        },
        "data": {
            "class_path": "genomics.datasets.GenomeWindowDataModule",
            "init_args": {
                "genomes": [{"fasta": str(write_genome(folder / "genome.fa")), **genome}],
                "windows": windows,
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 2,
            "log_every_n_steps": 1,
            "callbacks": callbacks,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
