"""Every layout of data and every kind of label trains, is tested and gets a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from sequence_files import random_sequence, with_motif, write_fasta

from genomics.results import Results
from seqmamba.cli.main import main

SMALL = ["--d-model", "8", "--layers", "1", "--d-state", "2", "--epochs", "1", "--batch-size", "16"]
SMALL += ["--accelerator", "cpu", "--set", "model.init_args.evaluation.bootstrap=10"]
N = 60

# Lightning still calls what jsonargparse deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


def labelled(folder: Path, header: str, rows: list[str]) -> list[str]:
    rng = np.random.default_rng(1)
    fasta = write_fasta(folder / "x.fa", [random_sequence(rng, int(rng.integers(20, 40))) for _ in rows])
    lines = [f"name\t{header}", *(f"seq{i}\t{row}" for i, row in enumerate(rows))]
    (folder / "y.tsv").write_text("\n".join(lines) + "\n")
    return ["--fasta", str(fasta), "--labels", str(folder / "y.tsv")]


def three_classes(folder: Path) -> list[str]:
    rng = np.random.default_rng(3)
    names = ("low", "middle", "high")
    return [
        str(write_fasta(folder / f"{name}.fa.txt", [random_sequence(rng, 30) for _ in range(20)], name))
        for name in names
    ]


def headers(folder: Path) -> list[str]:
    rng = np.random.default_rng(4)
    parts = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2
    lines = [f">s{i}|{i % 2}|{parts[i // 2 % 10]}\n{random_sequence(rng, 30)}\n" for i in range(N)]
    (folder / "x.fa").write_text("".join(lines))
    return ["--fasta", str(folder / "x.fa")]


def bed(folder: Path) -> list[str]:
    rng = np.random.default_rng(5)
    chromosomes = {f"chr{i}": random_sequence(rng, 4_000) for i in range(1, 7)}
    rows = []
    for name, sequence in chromosomes.items():
        letters = sequence
        for start in range(100, 3_900, 400):
            site = with_motif(rng, letters[start : start + 40])
            letters = letters[:start] + site + letters[start + 40 :]
            rows.append(f"{name}\t{start}\t{start + 40}")
        chromosomes[name] = letters
    (folder / "genome.fa").write_text("".join(f">{n}\n{s}\n" for n, s in chromosomes.items()))
    (folder / "peaks.bed").write_text("\n".join(rows) + "\n")
    return ["--bed", str(folder / "peaks.bed"), "--genome", str(folder / "genome.fa")]


def multilabel(folder: Path) -> list[str]:
    return [*labelled(folder, "a\tb", [f"{i % 2}\t{i // 2 % 2}" for i in range(N)]), "--task", "multilabel"]


def regression(folder: Path) -> list[str]:
    return [*labelled(folder, "level", [f"{i * 0.37:.2f}" for i in range(N)]), "--task", "regression"]


Layout = Callable[[Path], list[str]]


@pytest.mark.parametrize(
    ("layout", "task", "classes", "by"),
    [
        (three_classes, "classification", ("low", "middle", "high"), "similarity"),
        (headers, "classification", ("0", "1"), "column"),
        (bed, "classification", ("background", "positive"), "chromosome"),
        (multilabel, "multilabel", ("a", "b"), "similarity"),
        (regression, "regression", ("level",), "similarity"),
    ],
)
def test_from_files_to_report(
    layout: Layout, task: str, classes: tuple[str, ...], by: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert main(["genomics", "fit", *layout(tmp_path), "-o", str(run), *SMALL]) == 0
    results = Results.load(run / "results.json")
    assert (results.task, results.classes, results.split.by) == (task, classes, by)
    assert set(results.baselines) == {"length_gc", "kmer", "cnn"}
    for name, estimate in results.metrics.items():
        assert np.isfinite(estimate.value), name
    assert results.attributions
    assert (run / "report.html").stat().st_size > 10_000
    fresh = write_fasta(tmp_path / "new.fa", ["ACGTN" * 8, "acgtry" * 4])
    assert main(["genomics", "predict", str(run), str(fresh), "-o", str(tmp_path / "new.tsv")]) == 0
    assert len((tmp_path / "new.tsv").read_text().splitlines()) == 3


def test_blocks_have_the_size_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--split", "block", "--block-size", "1000", "-o", str(tmp_path / "run"), "--dry-run"]
    assert main(["genomics", "fit", *bed(tmp_path), *words]) == 0
    summary, _, recipe = capsys.readouterr().out.partition("\n\n")
    assert "By block: 24 blocks of 1,000 bases, each whole in one part." in summary
    split = yaml.safe_load(recipe)["data"]["init_args"]["split"]
    assert split == {"by": "block", "block_size": 1000}
