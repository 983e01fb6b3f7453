"""The genomics verbs from end to end, on sequences small enough to train in seconds."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from sequence_files import write_classes, write_fasta

from genomics.results import Results
from seqmamba.cli.main import main

SMALL = ["--d-model", "8", "--layers", "1", "--d-state", "2", "--epochs", "2", "--batch-size", "16"]
SMALL += ["--accelerator", "cpu", "--set", "model.init_args.evaluation.bootstrap=20"]

# Lightning still calls what jsonargparse deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(scope="module")
def run(class_fastas: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, baselines included."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["genomics", "fit", *class_fastas, "-o", str(folder), *SMALL]) == 0
    return folder


def test_a_run_folder_holds_everything(run: Path) -> None:
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "pretrained/config.json",
        "pretrained/model.safetensors",
        "predictions.tsv",
        "results.json",
        "report.html",
    } <= names
    assert not [name for name in names if name.endswith((".part", ".partial"))]


def test_results_hold_intervals_baselines_split_leaks_and_attributions(run: Path) -> None:
    results = Results.load(run / "results.json")
    assert results.classes == ("neg", "pos")  # the first file is the positive class, the second number
    assert results.seed == 1
    assert results.seconds > 0
    assert results.model.parameters > 500
    assert set(results.baselines) == {"length_gc", "kmer", "cnn"}
    assert results.split.by == "similarity"
    assert results.leaks["ok"]
    assert sum(sum(part.values()) for part in results.split.counts.values()) == 120
    accuracy = results.metrics["accuracy"]
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert results.attributions
    for attribution in results.attributions:
        assert len(attribution.sequence) == len(attribution.scores) >= 30
        assert np.isfinite(attribution.scores).all()
        assert attribution.label == attribution.prediction
    assert "<svg" in (run / "report.html").read_text()


def test_predictions_are_those_of_the_exported_model(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path
) -> None:
    assert main(["genomics", "predict", str(run), *class_fastas, "-o", str(tmp_path / "all.tsv")]) == 0
    everything = {row[0]: row for row in _rows(tmp_path / "all.tsv")}
    assert len(everything) == 121  # with the header
    tested = _rows(run / "predictions.tsv")[1:]
    assert len(tested) == sum(Results.load(run / "results.json").split.counts["test"].values())
    for name, split, label, prediction, *probabilities in tested:
        assert split == "test"
        assert name.startswith(label)
        assert everything[name][3] == prediction
        np.testing.assert_allclose(
            np.array(probabilities, float), np.array(everything[name][4:], float), atol=1e-5
        )


def test_the_recipe_of_a_run_runs_again(run: Path, tmp_path: Path) -> None:
    copy = str(tmp_path / "again")
    assert main(["fit", "--config", str(run / "config.yaml"), "--run", copy]) == 0
    one, two = (_weights(folder / "checkpoints" / "last.ckpt") for folder in (run, Path(copy)))
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)


def test_the_predict_verb_of_a_recipe_covers_every_part(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert main(["predict", "--run", str(copy)]) == 0
    rows = _rows(copy / "predictions.tsv")[1:]
    counts = Results.load(run / "results.json").split.counts
    assert Counter(row[1] for row in rows) == {part: sum(n.values()) for part, n in counts.items()}
    tested = {row[0]: row for row in _rows(run / "predictions.tsv")[1:]}
    assert all(row == tested[row[0]] for row in rows if row[1] == "test")


def test_resuming_a_finished_run_changes_no_weight(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = ["genomics", "fit", *class_fastas, "-o", str(folder), *SMALL, "--no-baselines"]
    assert main(words) == 0
    before = _weights(folder / "checkpoints" / "last.ckpt")
    assert main([*words, "--resume"]) == 0
    after = _weights(folder / "checkpoints" / "last.ckpt")
    assert all((before[name] == after[name]).all() for name in before)
    expected = _weights(run / "checkpoints" / "last.ckpt")
    assert all((expected[name] == after[name]).all() for name in expected)


def test_a_resumed_run_can_be_tried_dry(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert main(["genomics", "fit", "-o", str(run), "--resume", "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load((run / "config.yaml").read_text())
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_a_run_is_not_replaced_by_mistake(
    run: Path, class_fastas: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "config.yaml").read_bytes()
    assert main(["genomics", "fit", *class_fastas, "-o", str(run), *SMALL]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before


def test_what_is_set_reaches_the_split_that_is_shown(
    class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(*words: str) -> str:
        assert main(["genomics", "fit", *class_fastas, "-o", str(tmp_path / "x"), "--dry-run", *words]) == 0
        return capsys.readouterr().out

    split = ("--set", "data.init_args.split.by=random", "--set", "data.init_args.split.test_fraction=0.5")
    text = shown(*split, "--set", "model.init_args.model.backbone.d_model=24")
    assert re.search(r"^ +test: 30 neg, 30 pos$", text, re.M)
    assert re.search(r"^split: .*[Rr]andom", text, re.M)
    assert re.search(r"backbone\.d_model +24  given$", text, re.M)
    assert text.endswith("# --set model.init_args.model.backbone.d_model=24\n")
    assert shown("--split", "similarity") != shown("--split", "similarity", *split[:2])
    words = ["genomics", "fit", *class_fastas, "-o", str(tmp_path / "x")]
    assert main([*words, "--set", "data.init_args.split.tests=1"]) == 2
    assert "data.split.tests: there is no such key" in capsys.readouterr().err
    assert main([*words, "--set", "data.init_args.split.test_fraction=2"]) == 2
    assert "split.test_fraction: expected a number between 0 and 1, got 2" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_dry_run_prints_settings_and_a_recipe_and_writes_nothing(
    class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["genomics", "fit", *class_fastas, "-o", str(folder), "--dry-run", "--lr", "0.25"]) == 0
    out = capsys.readouterr().out
    summary, _, recipe = out.partition("\n\n")
    assert "60 neg, 60 pos" in summary
    assert re.search(r"model.init_args.optimiser.lr +0.25  given", summary)
    parsed = yaml.safe_load(recipe)
    assert parsed["model"]["init_args"]["optimiser"]["lr"] == 0.25
    assert parsed["data"]["init_args"]["fasta"] == {"neg": class_fastas[1], "pos": class_fastas[0]}
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected one layout of data, got none"),
        (["a.fa", "b.fa", "--bed", "c.bed"], "got FASTA files and --bed"),
        (["--bed", "c.bed"], "--bed needs --genome"),
        (["x/a.fa", "y/a.fa"], "two files are called 'a'"),
        (["a.fa", "b.fa", "--labels", "y.tsv"], "--labels goes with --fasta"),
        (["a.fa", "=b.fa"], "expected NAME=FILE"),
        (["nowhere_a.fa", "nowhere_b.fa"], "nowhere_b.fa: no such file"),
        (["--resume"], "holds no run"),
        (["a.fa", "b.fa", "--epochs", "0"], "--epochs: expected a positive number, got 0"),
        (["a.fa", "b.fa", "--pooling", "median"], "invalid choice: 'median'"),
        (["a.fa", "b.fa", "--d-modle", "8"], "--d-modle"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["genomics", "fit", *words, "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") <= 2
    assert not (tmp_path / "run").exists()


def test_a_wrong_key_is_named_and_leaves_no_run(
    class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "genomics",
        "fit",
        *class_fastas,
        "-o",
        str(tmp_path / "run"),
        *SMALL,
        "--set",
        "model.init_args.modle=1",
    ]
    assert main(words) == 2
    assert "modle" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_files_of_one_class_share_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pos, neg = write_classes(tmp_path)
    letters = ["".join(np.random.default_rng(i).choice(list("ACGT"), 40)) for i in range(9)]
    more = write_fasta(tmp_path / "more.fa", letters, "more")
    words = [f"yes={pos}", f"yes={more}", f"no={neg}"]
    assert main(["genomics", "fit", *words, "-o", str(tmp_path / "run"), "--dry-run"]) == 0
    assert "60 no, 69 yes" in capsys.readouterr().out


def test_audit_of_files_and_of_a_recipe_agree(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["genomics", "audit", *class_fastas, "--json", str(tmp_path / "audit.json")]) == 0
    from_files = capsys.readouterr().out
    assert main(["genomics", "audit", str(run / "config.yaml")]) == 0
    assert capsys.readouterr().out == from_files
    assert "verdict:" in from_files
    assert main(["genomics", "audit", *class_fastas, "--json", str(tmp_path / "audit.json")]) == 2
    assert "audit.json: exists already\nhint: --overwrite replaces it" in capsys.readouterr().err
    found = json.loads((tmp_path / "audit.json").read_text())
    assert found["groups"]["pos"]["n"] == 60


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "expected a recipe"),
        ("data: {init_args: {fsta: x}}", "fsta"),
        ("a: [", "expected a recipe"),
    ],
)
def test_audit_of_what_is_no_recipe(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(content)
    assert main(["genomics", "audit", str(tmp_path / "r.yaml")]) == 2
    assert words in capsys.readouterr().err


def _rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def _weights(checkpoint: Path) -> dict[str, np.ndarray]:
    from seqmamba.training.checkpoints import read_checkpoint

    return {name: value.numpy() for name, value in read_checkpoint(checkpoint)["state_dict"].items()}


def test_windows_are_as_long_as_the_sequences_of_training(run: Path, tmp_path: Path) -> None:
    genome = "".join(np.random.default_rng(0).choice(list("ACGT"), 400))
    (tmp_path / "g.fa").write_text(f">chr1\n{genome}\n")
    alt = "A" if genome[199] != "A" else "C"
    (tmp_path / "v.tsv").write_text(f"chrom\tpos\tref\talt\nchr1\t200\t{genome[199]}\t{alt}\n")
    length = int(Results.load(run / "results.json").data.lengths["median"])
    values = []
    for name, window in (("usual", []), ("same", ["--window", str(length)]), ("wider", ["--window", "300"])):
        given = [str(run), "--genome", str(tmp_path / "g.fa"), "--tsv", str(tmp_path / "v.tsv"), *window]
        output = tmp_path / f"{name}.tsv"
        assert main(["genomics", "score-variants", *given, "-o", str(output)]) == 0
        values.append(_rows(output)[1])
    assert values[0] == values[1] != values[2]
    output = tmp_path / "windows.npz"
    whole = [str(run), "--genome", str(tmp_path / "g.fa"), "--level", "window", "-o", str(output)]
    assert main(["genomics", "embed", *whole]) == 0
    assert set(np.diff(np.load(output)["start"])) == {length}
