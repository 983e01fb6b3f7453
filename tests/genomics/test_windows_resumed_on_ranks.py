"""Pretraining that stops in the middle of an epoch and goes on with other ranks, workers and batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from genome_files import write_pretraining_recipe
from ranks import seqmamba_on_ranks
from resumed_runs import assert_goes_on

pytestmark = pytest.mark.filterwarnings(
    "ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning", "ignore:.*LeafSpec.*"
)


def recipe(folder: Path) -> Path:
    """Two epochs of five steps of eight windows, with a checkpoint every two."""
    step = {
        "class_path": "seqmamba.training.step_checkpoint.StepCheckpoint",
        "init_args": {"every_n_steps": 2},
    }
    windows = {"length": 32, "steps_per_epoch": 5, "evaluation_windows": 6}
    callbacks = [step, {"class_path": "ranks.KeepSteps"}]
    return write_pretraining_recipe(folder, {"validation": ["chr2"]}, windows, callbacks)


def fit(config: Path, run: str, ranks: int, *words: str) -> Path:
    """Train on ranks, which share out eight windows a step, and return the run folder."""
    folder, log = config.parent / run, config.parent / f"{run}.log"
    size = ["--data.init_args.windows.tokens_per_batch", str(256 // ranks), "--trainer.devices", str(ranks)]
    command = ["fit", "--config", str(config), "-o", str(folder), *size, *words]
    assert seqmamba_on_ranks(ranks, command, log) == [0] * ranks, log.read_text()
    return folder


def test_an_epoch_begun_on_one_rank_ends_on_two(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    whole = fit(config, "whole", 1)
    two = fit(config, "two", 2, "--ckpt_path", str(whole / "step7.ckpt"))
    assert_goes_on(two, whole, 7)
    # one process makes the folder ready and says so; two would clear each other's files
    assert (tmp_path / "two.log").read_text().count("resumed at step 7") == 1


@pytest.mark.slow
def test_an_epoch_goes_over_one_two_and_four_ranks_and_back(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    whole = fit(config, "whole", 1)
    workers = ("--data.init_args.num_workers", "3")
    two = fit(config, "two", 2, "--ckpt_path", str(whole / "step2.ckpt"), *workers)
    assert_goes_on(two, whole, 2)
    four = fit(config, "four", 4, "--ckpt_path", str(two / "step4.ckpt"))
    assert_goes_on(four, whole, 4)
    one = fit(config, "one", 1, "--ckpt_path", str(four / "step7.ckpt"), *workers)
    assert_goes_on(one, whole, 7)


@pytest.mark.slow
def test_streams_go_on_with_the_states_of_their_rows(tmp_path: Path) -> None:
    config = recipe(tmp_path)
    content = yaml.safe_load(config.read_text())
    model = content["model"]["init_args"]["model"]
    model["backbone"]["direction"] = "causal"
    model |= {"objective": "next_base", "strand": "forward", "backprop": {"carry": True}}
    content["data"]["init_args"]["windows"]["order"] = "stream"
    config.write_text(yaml.safe_dump(content))
    whole = fit(config, "whole", 1)
    two = fit(config, "two", 2, "--ckpt_path", str(whole / "step7.ckpt"))
    assert_goes_on(two, whole, 7)
    one = fit(config, "one", 1, "--ckpt_path", str(two / "step9.ckpt"))
    assert_goes_on(one, whole, 9)
