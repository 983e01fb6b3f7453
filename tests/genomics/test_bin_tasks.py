"""Binned tracks from a recipe to the table of the test stretches."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from track_files import write_tracks

import seqmamba
from genomics.bin_models import BinnedTrackModel
from genomics.binned_tracks import TrackConfig
from genomics.datasets.tracks import BinnedTrackDataModule, BinnedWindowPlan
from genomics.genome_regions import GenomeConfig
from seqmamba.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


def recipe(folder: Path, data: dict[str, Any]) -> dict[str, Any]:
    backbone = {"d_model": 16, "n_layers": 1, "d_state": 4, "direction": "bidirectional"}
    return {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": {
            "class_path": "genomics.bin_tasks.BinnedTrackTask",
            "init_args": {
                "model": {
                    "backbone": {"class_path": "seqmamba.backbones.BackboneConfig", "init_args": backbone},
                    "strand": "conjoin",
                },
                "optimiser": {"lr": 1e-2},
                "evaluation": {"bootstrap": 50, "block": 64},
            },
        },
        "data": {"class_path": "genomics.datasets.BinnedTrackDataModule", "init_args": data},
        "trainer": {"max_epochs": 6},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracks")
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe(folder, write_tracks(folder))))
    words = ["--config", str(folder / "config.yaml"), "--config", "_trainer/cpu", "--traceback"]
    assert main(["fit", *words]) == 0
    assert main(["test", *words]) == 0
    return folder / "run"


def test_the_model_learns_what_the_bases_say(run: Path) -> None:
    with (run / "evaluation.tsv").open() as file:
        rows = {(row["target"], row["metric"]): row for row in csv.DictReader(file, delimiter="\t")}
    assert {target for target, _ in rows} == {"gc", "weak", "mean"}
    for target in ("gc", "weak"):
        pearson = rows[target, "pearson"]
        assert float(pearson["low"]) <= float(pearson["value"]) <= float(pearson["high"])
        assert float(pearson["value"]) > 0.9
    results = json.loads((run / "results.json").read_text())
    assert results["counts"] == {"bins": 74, "blocks": 10}
    assert results["seed"] == 1
    assert results["model"]["targets"] == ["gc", "weak"]
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", "val/pearson", "val/r2"} <= set(header)


def test_they_are_those_of_the_exported_model(run: Path) -> None:
    model = seqmamba.from_pretrained(run / "pretrained")
    assert isinstance(model, BinnedTrackModel)
    options = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    data = BinnedTrackDataModule(
        GenomeConfig(**options["genome"]),
        [TrackConfig(**each) for each in options["tracks"]],
        BinnedWindowPlan(**options["windows"]),
    )
    data.setup()
    predicted, true = [], []
    for batch in data.test_dataloader():
        with torch.inference_mode():
            values = model(batch["tokens"], batch.get("lengths"))
        known = batch["targets"].isfinite().all(-1)
        predicted.append(values[known])
        true.append(batch["targets"][known])
    x, y = (torch.cat(rows).numpy() for rows in (predicted, true))
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    for column, target in enumerate(("gc", "weak")):
        pearson = np.corrcoef(x[:, column], y[:, column])[0, 1]
        assert metrics[target]["pearson"]["value"] == pytest.approx(pearson, abs=1e-4)
        mse = ((x[:, column] - y[:, column]) ** 2).mean()
        assert metrics[target]["mse"]["value"] == pytest.approx(mse, rel=1e-3)


def test_it_is_tracked_along_the_genome(run: Path, tmp_path: Path) -> None:
    genome = str(run.parent / "g.fa")
    words = ["genomics", "track", str(run), "--genome", genome, "--target", "gc", "--window", "64"]
    words += ["--overlap", "0", "-o", str(tmp_path / "x.bedGraph"), "--traceback"]
    assert main(words) == 0
    rows = [line.split("\t") for line in (tmp_path / "x.bedGraph").read_text().splitlines()]
    assert all(int(start) % 8 == 0 for _, start, *_ in rows)


def test_poisson_wants_no_negative_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_tracks(tmp_path)
    (tmp_path / "x.bedGraph").write_text("chr1\t0\t2400\t-0.5\nchr2\t0\t2400\t1\n")
    config = recipe(tmp_path, data | {"tracks": [{"file": str(tmp_path / "x.bedGraph")}]})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    words = ["fit", "--config", str(tmp_path / "config.yaml"), "--config", "_trainer/cpu"]
    assert main(words) == 2
    assert "the track x goes down to -0.5" in capsys.readouterr().err
    assert main([*words, "--model.init_args.model.loss", "mse", "--trainer.max_steps", "2"]) == 0
