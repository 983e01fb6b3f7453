"""Figures of accuracy against context, and the k-mer baseline that they are drawn beside."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_builders import random_letters

from genomics.results import DataSummary, ModelSummary, Results
from recipes.genomics.species_context import baseline, figure
from seqmamba.metrics import Estimate


def run(folder: Path, context: int, value: float, parameters: int = 10) -> Path:
    folder.mkdir()
    Results(
        title="k-mers",
        task="classification",
        classes=("a", "b"),
        model=ModelSummary(parameters),
        data=DataSummary(lengths={"max": context}),
        metrics={"accuracy": Estimate(value, value - 0.1, value + 0.1)},
    ).save(folder / "results.json")
    return folder


def test_seeds_at_one_context_are_drawn_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        run(tmp_path / "a", 1024, 0.5),
        run(tmp_path / "b", 1024, 0.7),
        run(tmp_path / "c", 64, 0.4),
        run(tmp_path / "d", 64, 0.8, parameters=0),
    ]
    figure.main([*map(str, runs), "-o", str(tmp_path / "context.svg")])
    assert capsys.readouterr().out.splitlines() == [
        "Mamba, 64 bases: 0.4000 (0.3000 to 0.5000), seeds: 1",
        "Mamba, 1,024 bases: 0.6000 (0.4000 to 0.8000), seeds: 2",
        "k-mers, 64 bases: 0.8000 (0.7000 to 0.9000), seeds: 1",
    ]
    assert "<svg" in (tmp_path / "context.svg").read_text()


def test_an_unknown_metric_is_named(tmp_path: Path) -> None:
    words = [str(run(tmp_path / "a", 1024, 0.5)), "-o", str(tmp_path / "x.svg"), "--metric", "mccc"]
    with pytest.raises(SystemExit, match="--metric: expected one of accuracy, got 'mccc'"):
        figure.main(words)
    assert not (tmp_path / "x.svg").exists()


def test_the_baseline_trains_on_windows_of_training_chromosomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (
        "DH1_2",
        "Puno120",
        "RF122",
        "O395_1",
        "MG1655_K12",
        "SJM180",
        "USA300_FPR3757",
        "O1_biovar_1",
        "x",
    )
    species = ("escherichia_coli", "helicobacter_pylori", "staphylococcus_aureus", "vibrio_cholerae")
    for number, one in enumerate(species):
        place = tmp_path / "data" / "species_context" / "genomes" / one
        place.mkdir(parents=True)
        for seed, name in enumerate(names):  # told apart by their GC content
            letters = random_letters(2_000, 100 * number + seed, gc=0.2 + 0.2 * number)
            (place / f"chr{name}.fna").write_text(f">{name}\n{letters}\n")
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(baseline, "BASES", 100 * 256)
    words = ["--length", "256", "--eval-windows", "40", "-o", str(tmp_path / "run")]
    baseline.main(words)
    results = Results.load(tmp_path / "run" / "results.json")
    assert results.metrics["accuracy"].value > 0.8
    assert results.data.n == 100 + 2 * 40
    assert capsys.readouterr().out.startswith("256 bases: ")
    with pytest.raises(SystemExit, match="eval_windows: expected at least 4, got 1"):
        baseline.main(["--length", "256", "--eval-windows", "1", "-o", str(tmp_path / "run")])
