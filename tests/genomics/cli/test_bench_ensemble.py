"""``seqmamba genomics bench --ensemble``: members, their mean as one model, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_bench import TWO_STEPS, bench, folder, table

from genomics.results import Results
from seqmamba.cli.main import main
from seqmamba.predictions import Predictions
from seqmamba.training.run_folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
__all__ = ["folder"]  # a fixture

RUN = "out/runs/mamba/sound_seed42"


def read(run: Path) -> tuple[Results, Predictions]:
    files = RunFolder(run)
    results = Results.load(files.results)
    return results, Predictions.load(files.predictions, results.task, results.classes)


def test_a_run_is_the_mean_of_its_members(folder: Path) -> None:
    assert bench(folder, "--ensemble", "2", *TWO_STEPS) == 0
    whole, mean = read(folder / RUN)
    members = [read(folder / RUN / "members" / name) for name in ("0", "1")]
    outputs = [predictions.outputs for _, predictions in members]
    assert not np.allclose(*outputs)
    np.testing.assert_allclose(mean.outputs, np.mean(outputs, axis=0), atol=1e-6)
    assert whole.split == members[0][0].split == members[1][0].split
    assert len({results.seed for results, _ in members}) == 2
    row = table(folder)["rows"][0]
    assert row["runs"] == ["sound_seed42"]
    assert row["parameters"] == whole.model.parameters == sum(r.model.parameters for r, _ in members)

    fasta = folder / "x.fa"
    test = mean.part("test")
    lines = (folder / "GUE/mouse/4/test.csv").read_text().splitlines()[1:]
    fasta.write_text("".join(f">s{i}\n{line.split(',')[0]}\n" for i, line in enumerate(lines)))
    assert main(["genomics", "predict", str(folder / RUN), str(fasta), "-o", str(folder / "p.tsv")]) == 0
    again = Predictions.load(folder / "p.tsv", whole.task, whole.classes)
    np.testing.assert_allclose(again.outputs, test.outputs, atol=1e-4)


def test_finished_members_are_not_trained_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, "--ensemble", "2", *TWO_STEPS) == 0
    before, _ = read(folder / RUN)
    (folder / RUN / "results.json").unlink()
    RunFolder(folder / RUN / "members/1").results.unlink()
    kept = RunFolder(folder / RUN / "members/0").results.stat().st_mtime_ns
    capsys.readouterr()
    assert bench(folder, "--ensemble", "2", *TWO_STEPS) == 0
    assert RunFolder(folder / RUN / "members/0").results.stat().st_mtime_ns == kept
    assert read(folder / RUN)[0].metrics == before.metrics


@pytest.mark.parametrize("words", [("--ensemble", "0"), ("--ensemble", "2", "--model", "length_gc")])
def test_what_makes_no_ensemble_is_refused(
    folder: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(folder, *words) == 2
    assert "ensemble: expected at least 1 model of mamba" in capsys.readouterr().err
