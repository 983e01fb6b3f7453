"""A run that is killed at any moment and resumed ends in the same bits as one that was left alone."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_recipe
import torch
from processes import fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def struck(moment: str, epoch: int = 1, number: int = signal.SIGKILL, workers: bool = False) -> str:
    return (
        "--trainer.callbacks+={class_path: tiny_recipe.SignalAt, init_args: "
        f"{{moment: {moment}, epoch: {epoch}, signal: {int(number)}, workers: {str(workers).lower()}}}}}"
    )


def outcome(recipe: Path) -> dict[str, Any]:
    """Everything that a run leaves behind and that must not depend on interruptions."""
    folder = recipe.parent / "run"
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        "weights": last["state_dict"],
        "optimiser": last["optimizer_states"],
        "schedule": last["lr_schedulers"],
        "best": best["state_dict"],
        "position": (last["epoch"], last["global_step"], last["seqmamba"]),
        "metrics": (folder / "metrics.csv").read_text(),
        "board": {
            tag: [(event.step, event.value) for event in board.Scalars(tag)]
            for tag in board.Tags()["scalars"]
        },
        "pretrained": (folder / "pretrained/weight.txt").read_text(),
        "files": sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if "tfevents" not in path.name
        ),
    }


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [line for key in a for line in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [
            line
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for line in differences(x, y, f"{where}/{i}")
        ]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [f"{where}: {a} != {b}"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    recipe = tiny_recipe.recipe(tmp_path_factory.mktemp("whole"))
    assert fit(recipe) == 0
    return outcome(recipe)


def test_two_runs_are_the_same_and_another_seed_is_not(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe) == 0
    assert differences(outcome(recipe), uninterrupted) == []
    assert fit(recipe, "--overwrite", "true", "--seed_everything", "4") == 0
    assert differences(outcome(recipe)["weights"], uninterrupted["weights"]) != []


@pytest.mark.parametrize(
    ("moment", "epoch"),
    [
        ("batch 3", 0),
        ("before last.ckpt", 0),
        ("batch 2", 1),
        ("validation", 1),
        ("before best.ckpt", 1),
        ("after best.ckpt", 1),
        ("before last.ckpt", 2),
        ("after last.ckpt", 2),
        ("train end", 3),
        ("before pretrained", 4),
    ],
)
def test_kill_9_then_resume(tmp_path: Path, uninterrupted: dict[str, Any], moment: str, epoch: int) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe, struck(moment, epoch)) == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    assert fit(recipe, "--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert differences(outcome(recipe), uninterrupted) == []


@pytest.mark.parametrize("moment", ["batch 2", "validation", "before last.ckpt"])
def test_interrupt_then_resume(tmp_path: Path, uninterrupted: dict[str, Any], moment: str) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe, struck(moment, number=signal.SIGINT)) == 130
    log = (tmp_path / "log.txt").read_text()
    assert "seqmamba fit --config" in log
    assert "--ckpt_path last" in log
    assert "Traceback" not in log
    assert fit(recipe, "--ckpt_path", "last") == 0
    assert differences(outcome(recipe), uninterrupted) == []


def test_terminate_then_resume(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe, struck("batch 2", number=signal.SIGTERM)) == 128 + signal.SIGTERM
    assert "terminated; go on with: seqmamba fit --config" in (tmp_path / "log.txt").read_text()
    assert fit(recipe, "--ckpt_path", "last") == 0
    assert differences(outcome(recipe), uninterrupted) == []


def test_a_killed_loader_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    whole, broken = (tiny_recipe.recipe(tmp_path / name, workers=1) for name in ("whole", "broken"))
    assert fit(whole) == 0
    assert fit(broken, struck("batch 0", workers=True)) == 2
    log = (broken.parent / "log.txt").read_text()
    assert "error: a process that loads data was killed or ended" in log
    assert "--ckpt_path last" in log
    assert "Traceback" not in log
    assert fit(broken, "--ckpt_path", "last") == 0
    assert differences(outcome(broken), outcome(whole)) == []


def test_killed_again_and_again_at_random_moments(tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    delays = random.Random(5)
    for _ in range(6):
        if fit(recipe, "--ckpt_path", "last", kill_after=delays.uniform(0.3, 1.0)) == 0:
            break
    assert fit(recipe, "--ckpt_path", "last") == 0
    assert differences(outcome(recipe), uninterrupted) == []


@pytest.mark.parametrize(
    ("name", "workers", "trainer"),
    [
        ("workers", 2, {}),
        ("max_steps", 0, {"max_epochs": -1, "max_steps": 18}),
        ("accumulation", 0, {"accumulate_grad_batches": 2}),
        ("sparse validation", 0, {"check_val_every_n_epoch": 2}),
        ("dense validation", 0, {"val_check_interval": 2}),
        (
            "early stopping",
            0,
            {
                "max_epochs": 6,
                "callbacks": [
                    {
                        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                        "init_args": {"monitor": "val/loss", "patience": 1, "min_delta": 100.0},
                    }
                ],
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resume_under_other_trainer_settings(
    tmp_path: Path, name: str, workers: int, trainer: dict[str, Any]
) -> None:
    whole = tiny_recipe.recipe(tmp_path / "whole", workers=workers, trainer=trainer)
    assert fit(whole) == 0, (whole.parent / "log.txt").read_text()
    broken = tiny_recipe.recipe(tmp_path / "broken", workers=workers, trainer=trainer)
    moment = "after last.ckpt" if name == "early stopping" else "batch 3"
    assert fit(broken, struck(moment)) == -signal.SIGKILL
    assert fit(broken, "--ckpt_path", "last") == 0
    assert differences(outcome(broken), outcome(whole)) == []
    if name == "early stopping":
        assert outcome(whole)["position"][0] == 1
