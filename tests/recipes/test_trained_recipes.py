"""Recipes trained to their result, with the numbers that their READMEs promise. Needs the package index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqmamba.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def accuracy(config: str, run: Path, *options: str) -> dict[str, float]:
    """Train and test a recipe; gives the test accuracy of the model and of its baselines."""
    assert main(["fit", "--config", config, "--config", "_trainer/cpu", "--run", str(run), *options]) == 0
    assert main(["test", "--config", config, "--config", "_trainer/cpu", "--run", str(run), *options]) == 0
    results = json.loads((run / "results.json").read_text())
    scores = {"model": results["metrics"]["accuracy"]["value"]}
    return scores | {
        name: base["metrics"]["accuracy"]["value"] for name, base in results["baselines"].items()
    }


def test_oct4_mafk_over_three_seeds(tmp_path: Path) -> None:
    assert main(["recipes", "prepare", "genomics/oct4_mafk"]) == 0
    runs = [
        accuracy("genomics/oct4_mafk", tmp_path / str(seed), "--seed_everything", str(seed))
        for seed in (1, 2, 3)
    ]
    assert sum(run["model"] for run in runs) / len(runs) >= 0.985
    assert all(run["model"] > run["kmer"] + 0.03 for run in runs)
    assert all(run["length_gc"] < 0.8 for run in runs)


def test_coding_windows_of_a_genome(tmp_path: Path) -> None:
    assert main(["recipes", "prepare", "genomics/cds_intergenic"]) == 0
    scores = accuracy("genomics/cds_intergenic/ecoli", tmp_path / "run")
    assert scores["model"] >= 0.93
    assert scores["model"] >= scores["cnn"]
