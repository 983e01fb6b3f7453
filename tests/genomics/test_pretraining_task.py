from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from genome_files import write_genome
from safetensors.torch import load_file

from genomics.masked_model import MaskedModel
from genomics.pretraining_task import PretrainingTask
from seqmamba import from_pretrained
from seqmamba.backbones import LanguageModel
from seqmamba.cli.main import main

# Lightning's own use of jsonargparse and of torch is not this project's to fix.
pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)
BACKBONE = {"d_model": 8, "n_layers": 2, "d_state": 2, "dropout": 0.1, "scan_impl": "chunked"}


def recipe(folder: Path, model: dict[str, Any] | None = None, **trainer: Any) -> Path:
    """Write a recipe of three epochs of six steps, the first two of them with shorter windows."""
    fasta = write_genome(folder / "genome.fa")
    model = {"backbone": {**BACKBONE, "direction": "bidirectional"}, **(model or {})}
    windows = {"length": 64, "tokens_per_batch": 128, "steps_per_epoch": 6, "first_length": 16}
    genomes = [{"fasta": str(fasta), "validation": ["chr2"], "test": ["chr3"]}]
    checkpoint = "seqmamba.training.step_checkpoint.StepCheckpoint"
    content = {
        "model": {
            "class_path": "genomics.pretraining_task.PretrainingTask",
            "init_args": {"model": model, "optimiser": {"lr": 5e-3}},
        },
        "data": {
            "class_path": "genomics.datasets.GenomeWindowDataModule",
            "init_args": {"genomes": genomes, "windows": {**windows, "evaluation_windows": 6}},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 3,
            "log_every_n_steps": 1,
            "callbacks": [{"class_path": checkpoint, "init_args": {"every_n_steps": 2}}],
            **trainer,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The keys of the windows of every training step so far; a run ends where `stop` of them are done."""
    seen: list[tuple[int, ...]] = []
    original = PretrainingTask.training_step

    def spy(self: PretrainingTask, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(seen) == spy.stop:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        seen.append(tuple(batch["keys"].tolist()))
        return original(self, batch, batch_idx)

    spy.stop = -1  # type: ignore[attr-defined]
    monkeypatch.setattr(PretrainingTask, "training_step", spy)
    return seen


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [dict(sorted(row.items())) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("trainer", "kept"),
    [({}, 10), ({"max_epochs": None, "max_steps": 18}, 10), ({"accumulate_grad_batches": 2}, 10)],
)
def test_a_run_killed_in_the_middle_of_an_epoch_goes_on_as_if_it_had_not_been(
    tmp_path: Path, steps: list[tuple[int, ...]], trainer: dict[str, Any], kept: int
) -> None:
    goes_on_as_if_not_killed(str(recipe(tmp_path, **trainer)), tmp_path, steps, kept)


def test_states_carried_along_streams_are_in_the_checkpoint(
    tmp_path: Path, steps: list[tuple[int, ...]]
) -> None:
    model = {
        "objective": "next_base",
        "strand": "forward",
        "backbone": {**BACKBONE, "direction": "causal"},
        "backprop": {"length": 20, "truncate": True, "carry": True},
    }
    config = str(recipe(tmp_path, model))
    run = ["fit", "--config", config, "--run", str(tmp_path / "refused")]
    assert main([*run, "--model.init_args.model.backprop.carry", "false"]) == 0
    steps.clear()
    assert main(run) == 2  # the windows are drawn at random
    stream = yaml.safe_load(Path(config).read_text())
    stream["data"]["init_args"]["windows"]["order"] = "stream"
    Path(config).write_text(yaml.safe_dump(stream))
    goes_on_as_if_not_killed(config, tmp_path, steps, 10)


def goes_on_as_if_not_killed(config: str, tmp_path: Path, steps: list[tuple[int, ...]], kept: int) -> None:
    """Train once whole and once killed after 11 steps and resumed, and compare."""
    assert main(["fit", "--config", config, "--run", str(tmp_path / "whole")]) == 0
    whole = steps.copy()
    assert len(whole) == 18
    steps.clear()
    PretrainingTask.training_step.stop = 11  # type: ignore[attr-defined]
    assert main(["fit", "--config", config, "--run", str(tmp_path / "killed")]) == 130
    assert steps == whole[:11]
    del steps[kept:]  # what came after the last checkpoint is done again
    PretrainingTask.training_step.stop = -1  # type: ignore[attr-defined]
    resume = ["fit", "--config", str(tmp_path / "killed" / "config.yaml"), "--ckpt_path", "last"]
    assert main([*resume, "--run", str(tmp_path / "killed")]) == 0
    assert steps == whole
    weights = [load_file(tmp_path / run / "pretrained" / "model.safetensors") for run in ("whole", "killed")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert rows(tmp_path / "whole") == rows(tmp_path / "killed")


def test_a_test_run_reports_bases_and_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(recipe(tmp_path))
    run = ["--config", config, "--run", str(tmp_path / "run")]
    assert main(["fit", *run, "--trainer.max_epochs", "1"]) == 0
    assert main(["test", *run]) == 0
    printed = capsys.readouterr().out
    for name in ("loss", "perplexity", "accuracy_T", "perplexity_repeat", "perplexity_unique"):
        assert name in printed
    model = from_pretrained(tmp_path / "run" / "pretrained")
    assert isinstance(model, MaskedModel)
    assert model.config.equivariant
    error = model.symmetry_error(2, 50)
    assert error is not None
    assert error < 1e-4


def test_the_next_base(tmp_path: Path) -> None:
    model = {
        "objective": "next_base",
        "strand": "conjoin",
        "backbone": {**BACKBONE, "direction": "causal"},
    }
    config = str(recipe(tmp_path, model))
    run = ["--config", config, "--run", str(tmp_path / "run"), "--trainer.max_epochs", "1"]
    assert main(["fit", *run]) == 0
    assert isinstance(from_pretrained(tmp_path / "run" / "pretrained"), LanguageModel)


def test_pretraining_goes_on_from_a_pretrained_model(tmp_path: Path) -> None:
    config = str(recipe(tmp_path))
    options = ["--config", config, "--trainer.max_epochs", "1"]
    assert main(["fit", *options, "--run", str(tmp_path / "first")]) == 0
    begin = ["--model.init_args.model.init_from", str(tmp_path / "first" / "pretrained")]
    still = ["--model.init_args.optimiser.lr", "1e-12"]
    assert main(["fit", *options, *begin, *still, "--run", str(tmp_path / "second")]) == 0
    first, second = (
        load_file(tmp_path / run / "pretrained" / "model.safetensors") for run in ("first", "second")
    )
    assert all(torch.allclose(first[name], second[name], atol=1e-9) for name in first)
    assert main(["fit", *options, *begin, "--model.init_args.model.strand", "forward", "--run", "x"]) == 2
    shutil.rmtree(tmp_path / "first")
    assert main(["test", "--run", str(tmp_path / "second")]) == 0


def test_step_checkpoints_need_a_loader_that_knows_its_place(
    tmp_path: Path, class_fastas: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    positive, negative = class_fastas
    content = {
        "model": {"class_path": "genomics.tasks.SequenceTask"},
        "data": {
            "class_path": "genomics.datasets.SequenceDataModule",
            "init_args": {"fasta": {"a": positive, "b": negative}, "split": {"by": "random"}},
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": 1,
            "callbacks": [
                {
                    "class_path": "seqmamba.training.step_checkpoint.StepCheckpoint",
                    "init_args": {"every_n_steps": 2},
                }
            ],
        },
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    assert main(["fit", "--config", str(tmp_path / "r.yaml"), "--run", str(tmp_path / "run")]) == 2
    assert "DataLoader does not know its place in an epoch" in capsys.readouterr().err
