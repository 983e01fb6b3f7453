"""A run made smaller, made a program, taught from, and shared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genomics.ensembles import EnsembleModel
from genomics.models import SequenceModel
from genomics.report.card import USAGE
from seqmamba.cli.main import build_parser, main
from seqmamba.predictions import Predictions

# Lightning's own use of jsonargparse and of torch is not this project's to fix.
pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)
SMALL = ["--batch-size", "16", "--split", "random", "--accelerator", "cpu", "--no-baselines"]
SMALL += ["--set", "model.init_args.evaluation.bootstrap=20", "--epochs", "1"]


def fit(fastas: tuple[str, str], run: Path, *options: str) -> int:
    return main(["genomics", "fit", *fastas, "-o", str(run), *SMALL, *options])


@pytest.fixture(scope="module")
def run(class_fastas: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("deployed") / "run"
    assert fit(class_fastas, run, "--d-model", "16", "--layers", "1", "--d-state", "2") == 0
    return run


def predict(model: Path, fasta: str, output: Path) -> np.ndarray:
    assert main(["genomics", "predict", str(model), fasta, "-o", str(output), "--device", "cpu"]) == 0
    return Predictions.load(output, "classification", ("neg", "pos")).outputs


def test_int8_weights_are_measured_and_predict(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    assert main(["export", str(run), "-o", str(small)]) == 0
    printed = capsys.readouterr().out
    report = json.loads((small / "export.json").read_text())
    assert "measured on the validation part" in printed
    assert report["part"] == "validation"
    assert report["smaller"]["bytes"] < report["original"]["bytes"]
    accuracy = [report[side]["metrics"]["accuracy"] for side in ("original", "smaller")]
    assert f"{'accuracy':22}{accuracy[0]:14.4f}{accuracy[1]:14.4f}" in printed
    whole = predict(run, class_fastas[0], tmp_path / "whole.tsv")
    change = np.abs(predict(small, class_fastas[0], tmp_path / "small.tsv") - whole).max()
    assert 0 < change < 0.02
    before = (run / "results.json").read_bytes()
    assert main(["export", str(run), "-o", str(small)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (run / "results.json").read_bytes() == before


def test_without_its_data_a_run_is_not_quantised_unmeasured(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    (moved / "checkpoints").mkdir(parents=True)
    (moved / "pretrained").symlink_to(run / "pretrained")
    (moved / "checkpoints" / "best.ckpt").symlink_to(run / "checkpoints" / "best.ckpt")
    recipe = (run / "config.yaml").read_text().replace(class_fastas[0], str(tmp_path / "gone.fa"))
    (moved / "config.yaml").write_text(recipe)
    assert main(["export", str(moved), "-o", str(tmp_path / "small")]) == 2
    assert "gone.fa" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_a_program_says_what_it_takes(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    words = ["export", str(run), "-o", str(path), "--format", "torch"]
    assert main([*words, "--length", "40", "--batch", "2"]) == 0
    facts = json.loads((tmp_path / "model.pt2.json").read_text())
    assert facts["inputs"] == {"x": {"shape": [2, 40], "dtype": "int64"}}
    assert facts["outputs"] == {"y": {"shape": [2, 2], "dtype": "float32"}}
    assert facts["config"]["classes"] == ["neg", "pos"]
    model = SequenceModel.from_pretrained(run / "pretrained")
    tokens = model.example_input(2, 40, torch.Generator().manual_seed(5))
    with torch.no_grad():
        answers = torch.export.load(path).module()(tokens)
        torch.testing.assert_close(answers, model.predict(tokens))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "40"], "--length: is for --format torch and onnx"),
        (["--format", "torch"], "--length: expected the positions of the input, or --step"),
        (["--format", "torch", "--step"], "expected a causal model, got a SequenceModel"),
        (["--format", "onnx", "--length", "4", "--device", "cuda"], "--device: expected cpu for onnx"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_small_model_learns_what_several_large_ones_answer(
    run: Path,
    class_fastas: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = tmp_path / "teacher"
    trained = SequenceModel.from_pretrained(run / "pretrained")
    with torch.no_grad():
        trained.head.weight.zero_()
        trained.head.bias.copy_(torch.tensor([-3.0, 3.0]))  # says pos whatever it reads
    EnsembleModel.of([trained, trained]).save_pretrained(teacher)
    options = ["--d-model", "8", "--layers", "1", "--d-state", "2", "--lr", "0.05", "--epochs", "6"]
    options += [
        "--set",
        "model.init_args.distil_from.weight=1.0",
        "--set",
        "model.init_args.augmentation.mixup=0.3",
    ]
    assert fit(class_fastas, tmp_path / "run", "--distil-from", str(teacher), *options) == 0
    assert "learning from the" in capsys.readouterr().err
    for fasta in class_fastas:
        assert predict(tmp_path / "run", fasta, tmp_path / Path(fasta).name).argmax(axis=1).all()


def test_a_teacher_of_other_classes_is_refused(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = (class_fastas[0], str(tmp_path / "other.fa"))
    Path(pair[1]).write_text(Path(class_fastas[1]).read_text())
    assert fit(pair, tmp_path / "run", "--distil-from", str(run)) == 2
    assert "the classes of the model in" in capsys.readouterr().err


def test_a_shared_run_predicts_and_has_its_audit_on_its_card(
    run: Path, class_fastas: tuple[str, str], tmp_path: Path
) -> None:
    assert main(["push", str(run), str(tmp_path / "shared"), "--licence", "mit"]) == 0
    assert main(["pull", str(tmp_path / "shared"), str(tmp_path / "back")]) == 0
    expected = predict(run, class_fastas[0], tmp_path / "run.tsv")
    assert np.array_equal(predict(tmp_path / "back", class_fastas[0], tmp_path / "back.tsv"), expected)
    results = json.loads((run / "results.json").read_text())
    card = (tmp_path / "back" / "README.md").read_text(encoding="utf-8")
    leaks, accuracy = results["leaks"]["summary"], results["metrics"]["accuracy"]
    assert f"## Leaks between the parts\n\n{leaks}\n" in card
    assert f"| Accuracy | {accuracy['value']:.3f} | {accuracy['low']:.3f} to {accuracy['high']:.3f} |" in card
    assert results["split"]["explanation"] in card
    assert str(Path(class_fastas[0]).parent) not in card


def test_every_command_of_a_card_is_one() -> None:
    for lines in USAGE.values():
        for line in lines:
            build_parser().parse_args(line.split()[1:])
