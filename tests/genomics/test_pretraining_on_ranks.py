"""Pretraining runs on several processes: devices that share out windows, batches and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from genome_files import write_pretraining_recipe
from ranks import seqmamba_on_ranks
from safetensors.torch import load_file

from seqmamba.cli.main import main

pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)


def recipe(folder: Path) -> Path:
    """Two epochs of four steps."""
    genome = {"validation": ["chr2"], "test": ["chr3"]}
    windows = {"length": 64, "tokens_per_batch": 128, "steps_per_epoch": 4, "evaluation_windows": 6}
    return write_pretraining_recipe(folder, genome, windows, [{"class_path": "ranks.KeepFirstEpoch"}])


def fit(config: Path, run: str, size: int, *words: str) -> Path:
    """Train on ranks and return the run folder."""
    folder, log = config.parent / run, config.parent / f"{run}.log"
    command = ["fit", "--config", str(config), "-o", str(folder), "--trainer.devices", str(size), *words]
    assert seqmamba_on_ranks(size, command, log) == [0] * size, log.read_text()
    return folder


def assert_same_run(found: Path, expected: Path) -> None:
    """The last state, moments included, and the exported model."""

    def state(run: Path) -> dict[str, Any]:
        return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)

    one, other = state(found), state(expected)
    torch.testing.assert_close(one["state_dict"], other["state_dict"], rtol=1e-5, atol=1e-5)
    moments, others = (each["optimizer_states"][0]["state"] for each in (one, other))
    torch.testing.assert_close(moments, others, rtol=1e-4, atol=1e-6)
    models = [load_file(run / "pretrained" / "model.safetensors") for run in (found, expected)]
    torch.testing.assert_close(*models, rtol=1e-5, atol=1e-5)


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    whole = fit(config, "whole", 1)
    shared = fit(config, "shared", 2, "--context_parallel", "2", "--trainer.strategy", "sharded")
    assert_same_run(shared, whole)
    for size, run in ((1, whole), (2, shared)):
        other = ("--context_parallel", "2", "--trainer.strategy", "sharded") if run is whole else ()
        size = 2 if run is whole else 1
        again = fit(config, f"again{size}", size, "--ckpt_path", str(run / "first.ckpt"), *other)
        assert_same_run(again, whole)
    command = ["test", "--config", str(config), "-o", str(shared), "--context_parallel", "2"]
    log = tmp_path / "test.log"
    assert seqmamba_on_ranks(2, [*command, "--trainer.devices", "2"], log) == [0, 0], log.read_text()
    assert main(["test", "--config", str(config), "-o", str(whole)]) == 0
    two, one = (yaml.safe_load((run / "results.json").read_text())["test"] for run in (shared, whole))
    assert two == pytest.approx(one, rel=1e-4)


def test_an_average_of_weights_that_are_shared_out_is_kept_whole(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    content = yaml.safe_load(config.read_text())
    content["trainer"]["callbacks"].append({"class_path": "seqmamba.training.ema.WeightAverage"})
    config.write_text(yaml.safe_dump(content))
    data = fit(config, "data", 2)
    shared = fit(config, "shared", 2, "--trainer.strategy", "sharded")
    first = ("--ckpt_path", str(data / "first.ckpt"), "--trainer.strategy", "sharded")
    for run in (shared, fit(config, "again", 2, *first)):
        assert_same_run(run, data)
        kept = [
            torch.load(each / "checkpoints" / "last.ckpt", weights_only=True)["weight_average"]
            for each in (run, data)
        ]
        torch.testing.assert_close(*kept, rtol=1e-5, atol=1e-5)


def test_rows_of_a_mesh_share_out_batches(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    assert_same_run(fit(config, "mesh", 4, "--context_parallel", "2"), fit(config, "data", 2))


def test_what_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(recipe(tmp_path))
    fit_here = ["fit", "--config", config, "-o", str(tmp_path / "run")]
    assert main([*fit_here, "--context_parallel", "2"]) == 2
    assert "expected a divisor of the 1 devices, got 2" in capsys.readouterr().err
    assert main([*fit_here, "--context_parallel", "0"]) == 2
    assert "context_parallel" in capsys.readouterr().err
    assert main([*fit_here, "--trainer.strategy", "fsdp"]) == 2
    assert "use --trainer.strategy sharded" in capsys.readouterr().err
