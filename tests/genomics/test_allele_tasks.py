"""Pairs of alleles from a recipe to the table of the test variants, and on to scored variants."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import seqmamba
from genomics.allele_models import PairedAlleleModel, PairedAlleleModelConfig
from genomics.allele_tasks import evaluate_alleles
from seqmamba.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

GC = {"A": -1.0, "T": -1.0, "C": 1.0, "G": 1.0}


def write_variants(folder: Path, per_chromosome: int = 120) -> None:
    """Write g.fa and v.vcf: an effect is what a substitution does to GC, a label says if any."""
    rng = np.random.default_rng(0)
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=EFFECT,Number=A,Type=Float,Description="x">']
    lines += ['##INFO=<ID=HIT,Number=A,Type=Integer,Description="x">']
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    with (folder / "g.fa").open("w") as out:
        for name in ("chr1", "chr2", "chr3"):
            letters = "".join(rng.choice(list("ACGT"), 1500))
            out.write(f">{name}\n{letters}\n")
            for place in sorted(rng.choice(np.arange(40, 1400), per_chromosome, replace=False).tolist()):
                alt = "ACGT"["ACGT".index(letters[place]) - int(rng.integers(1, 4))]
                effect = 50 * (GC[alt] - GC[letters[place]])
                info = f"EFFECT={effect};HIT={int(effect != 0)}"
                lines.append(f"{name}\t{place + 1}\t.\t{letters[place]}\t{alt}\t.\t.\t{info}")
    (folder / "v.vcf").write_text("\n".join(lines) + "\n")


def recipe(folder: Path, target: str, task: str) -> dict[str, Any]:
    backbone = {"d_model": 16, "n_layers": 1, "d_state": 4, "direction": "bidirectional"}
    return {
        "seed_everything": 1,
        "run": str(folder / "run"),
        "model": {
            "class_path": "genomics.allele_tasks.PairedAlleleTask",
            "init_args": {
                "model": {
                    "backbone": {"class_path": "seqmamba.backbones.BackboneConfig", "init_args": backbone},
                    "stem_width": 3,
                },
                "optimiser": {"lr": 1e-2},
                "evaluation": {"bootstrap": 50},
            },
        },
        "data": {
            "class_path": "genomics.datasets.PairedAlleleDataModule",
            "init_args": {
                "genome": str(folder / "g.fa"),
                "variants": str(folder / "v.vcf"),
                "labels": {"targets": [target], "task": task},
                "split": {"validation": ["chr2"], "test": ["chr3"]},
                "window": 16,
                "batch_size": 16,
            },
        },
        "trainer": {"max_epochs": 12},
    }


def trained(folder: Path, target: str, task: str) -> Path:
    write_variants(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe(folder, target, task)))
    words = ["--config", str(folder / "config.yaml"), "--config", "_trainer/cpu", "--traceback"]
    assert main(["fit", *words]) == 0
    assert main(["test", *words]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("target", "task", "metric"), [("EFFECT", "effects", "spearman"), ("HIT", "labels", "auroc")]
)
def test_a_model_learns_what_variants_do(tmp_path: Path, target: str, task: str, metric: str) -> None:
    run = trained(tmp_path, target, task)
    results = json.loads((run / "results.json").read_text())
    assert results["counts"] == {"variants": 120}
    with (run / "evaluation.tsv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert float(rows[metric]["low"]) <= float(rows[metric]["value"]) <= float(rows[metric]["high"])
    assert float(rows[metric]["value"]) > 0.85
    model = seqmamba.from_pretrained(run / "pretrained")
    assert isinstance(model, PairedAlleleModel)
    assert model.config.signed == (task == "effects")
    with (run / "predictions.tsv").open() as file:
        predictions = list(csv.DictReader(file, delimiter="\t"))
    assert {row["chrom"] for row in predictions} == {"chr3"}
    # The verb that scores variants gives the same numbers.
    words = ["genomics", "score-variants", str(run), "--genome", str(tmp_path / "g.fa"), "--window", "16"]
    words += ["--vcf", str(tmp_path / "v.vcf"), "-o", str(tmp_path / "scored.vcf")]
    assert main(words) == 0
    scored = {}
    for line in (tmp_path / "scored.vcf").read_text().splitlines():
        if line.startswith("chr3"):
            cells = line.split("\t")
            scored[cells[1]] = float(cells[7].rpartition(f"DELTA_{target}=")[2].split(";")[0])
    for row in predictions:
        assert scored[row["pos"]] == pytest.approx(float(row[f"{target}_predicted"]), rel=1e-3, abs=1e-3)
    if task == "effects":
        assert np.std([float(row["EFFECT_predicted"]) for row in predictions]) > 20  # in their own units
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", f"val/{metric}"} <= set(header)


@pytest.mark.parametrize("signed", [True, False])
def test_what_exchanging_the_alleles_changes(signed: bool) -> None:
    torch.manual_seed(0)
    config = PairedAlleleModelConfig(targets=("a", "b"), signed=signed)
    model = PairedAlleleModel(config).eval()
    one, other = (model.example_input(3, 20, torch.Generator().manual_seed(seed)) for seed in range(2))
    with torch.no_grad():
        forth, back, same = model(one, other), model(other, one), model(one, one)
    torch.testing.assert_close(back, -forth if signed else forth)
    torch.testing.assert_close(same, torch.zeros(3, 2) if signed else model.head.linear.bias.expand(3, 2))


def test_unknown_values_do_not_count() -> None:
    effects = np.array([[3.0, 1.0], [2.0, 800.0], [1.0, 3.0], [-900.0, 4.0]])
    values = np.array([[1.0, np.nan], [1.0, np.nan], [0.0, np.nan], [np.nan, np.nan]])
    found = evaluate_alleles(effects, values, ("a", "b"), "labels", 0)
    assert found["a"]["auroc"].value == 1
    assert np.isnan(found["b"]["auroc"].value)
    found = evaluate_alleles(effects, values * 2, ("a", "b"), "effects", 0)
    assert found["a"]["spearman"].value == pytest.approx(0.866, abs=1e-3)
