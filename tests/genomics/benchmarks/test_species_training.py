"""A species run from chromosomes to its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from release_files import random_letters

from genomics.benchmarks.species import GREAT_APES
from genomics.results import Results
from seqmamba.cli.main import main

# Lightning still calls what jsonargparse deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


def test_two_epochs_and_a_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for species in GREAT_APES:
        (tmp_path / "apes" / species).mkdir(parents=True)
        for name in ("1", "5", "2A"):
            (tmp_path / "apes" / species / f"chr{name}.fa").write_text(f">c\n{random_letters(rng, 300)}\n")
    data = {"folder": str(tmp_path / "apes"), "form": "great_apes", "length": 50}
    recipe = {
        "model": {
            "class_path": "genomics.benchmarks.BenchmarkTask",
            "init_args": {"model": {"backbone": {"d_model": 8, "n_layers": 1, "d_state": 2}}},
        },
        "data": {
            "class_path": "genomics.benchmarks.SpeciesDataModule",
            "init_args": {**data, "train_windows": 16, "eval_windows": 10, "batch_size": 8},
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = ["--run", str(tmp_path / "run"), "--traceback"]
    assert main(["fit", "--config", str(tmp_path / "recipe.yaml"), *run]) == 0
    assert main(["test", *run]) == 0
    results = Results.load(tmp_path / "run" / "results.json")
    assert results.classes == ("bonobo", "chimpanzee", "gorilla", "human", "orangutan")
    assert sum(results.split.counts["test"].values()) == 10
    assert 0 <= results.metrics["accuracy"].value <= 1
    assert (tmp_path / "run" / "report.html").is_file()
