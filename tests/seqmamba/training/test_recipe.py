"""`seqmamba fit` and `test` on a run folder: what they write, and what they refuse in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_recipe
import torch
import yaml
from processes import fit, run
from test_checkpoints import GOOD, Payload


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with a finished run beside it."""
    recipe = tiny_recipe.recipe(tmp_path_factory.mktemp("finished"), trainer={"max_epochs": 2})
    assert fit(recipe) == 0, (recipe.parent / "log.txt").read_text()
    return recipe


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_folder_is_complete_and_its_output_clean(finished: Path) -> None:
    run_folder = finished.parent / "run"
    names = {name for name in files(run_folder) if not name.startswith("tensorboard/")}
    assert names == {
        "config.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "pretrained/weight.txt",
    }
    lines = (finished.parent / "log.txt").read_text().splitlines()
    assert len(lines) == 3, lines  # no advertising, no advice
    assert lines[0].startswith(f"run {run_folder}: 65 parameters, CPU")
    assert lines[1].startswith("epoch 1/2  train/loss ")
    assert lines[2].startswith("epoch 2/2  train/loss ")


def test_the_export_holds_the_best_weights(finished: Path) -> None:
    run_folder = finished.parent / "run"
    best = torch.load(run_folder / "checkpoints/best.ckpt", weights_only=True)
    assert (run_folder / "pretrained/weight.txt").read_text() == repr(
        best["state_dict"]["head.weight"].tolist()
    )


def test_the_saved_recipe_is_complete_and_makes_the_same_run(finished: Path, tmp_path: Path) -> None:
    saved = yaml.safe_load((finished.parent / "run/config.yaml").read_text())
    assert saved["model"]["init_args"]["optimiser"]["betas"] == [0.9, 0.98]  # defaults included
    assert saved["seed_everything"] == 3
    assert "ckpt_path" not in saved
    command = ["fit", "--config", str(finished.parent / "run/config.yaml"), "--run", str(tmp_path / "again")]
    assert run(command, log=tmp_path / "log.txt") == 0
    assert (tmp_path / "again/metrics.csv").read_text() == (finished.parent / "run/metrics.csv").read_text()


def test_test_finds_recipe_and_best_weights_in_the_run(finished: Path, tmp_path: Path) -> None:
    before = files(finished.parent / "run")
    log = tmp_path / "log.txt"
    assert run(["test", "--run", str(finished.parent / "run")], log=log) == 0, log.read_text()
    assert "test/loss" in log.read_text()
    assert files(finished.parent / "run") == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit --config {recipe} --run {run}", "already holds a run"),
        ("fit --config {recipe} --run {recipe}", "is a file, expected a folder"),
        ("fit --config {recipe} --run {run} --ckpt_path best", "holds weights only"),
        ("fit --config {recipe} --run {run} --ckpt_path no.ckpt", "there is no file no.ckpt"),
        ("fit --config {folder}/no.yaml", "no.yaml: there is no such file"),
        ("fit --config {recipe} --run new --trainer.max_epoch 3", "there is no option --trainer.max_epoch"),
        (
            "fit --config {recipe} --run new --trainer.max_epochs x",
            "--trainer.max_epochs: trainer.max_epochs: expected an int, got x",
        ),
        ("fit --config {recipe} --run new --model.init_args.widht 3", "hint: did you mean width?"),
        ("fit --config {recipe} --run new --model no.Task", "No module named 'no'"),
        ("fit --config {recipe} --run {run} --overwrite true --trainer.devices 0", "error: trainer: "),
        (
            "fit --config {recipe} --run {run} --overwrite true --model.init_args.optimiser.lr -1",
            "optimiser.lr must be a positive number",
        ),
        ("fit --config {folder}/unknown.yaml", "unknown.yaml:{last_line}: modle: there is no such key"),
        ("fit --config {folder}/deep.yaml", "deep.yaml:{lr_line}: model.optimiser.lrr: there is no such key"),
        ("fit --config {folder}/broken.yaml", "broken.yaml:3: not valid YAML"),
        ("fit --config {folder}/list.yaml", "list.yaml:1: not a recipe"),
        ("fit", "no value for data, model"),
        ("test --run {folder}/nothing", "there is no run in this folder"),
        ("test --run {run} --ckpt_path no.ckpt", "there is no file no.ckpt"),
    ],
    ids=lambda value: "" if value.startswith(("fit", "test")) else value,
)
def test_a_mistake_is_one_sentence_and_changes_nothing(
    finished: Path, tmp_path: Path, command: str, message: str
) -> None:
    text = finished.read_text()
    (tmp_path / "unknown.yaml").write_text(f"{text}modle: 1\n")
    (tmp_path / "deep.yaml").write_text(text.replace("lr: ", "lrr: "))
    (tmp_path / "broken.yaml").write_text("run: a\nmodel: [\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    before = files(finished.parent / "run")
    places = {"recipe": finished, "run": finished.parent / "run", "folder": tmp_path}
    lines = text.splitlines()
    numbers = {"last_line": len(lines) + 1, "lr_line": [line.strip()[:3] for line in lines].index("lr:") + 1}
    log = tmp_path / "log.txt"
    assert run(command.format(**places).split(), log=log) == 2, log.read_text()
    lines = [line for line in log.read_text().splitlines() if not line.startswith("recipe: ")]
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2
    assert message.format(**numbers) in log.read_text()
    assert files(finished.parent / "run") == before


def test_a_malicious_checkpoint_is_refused_unexecuted(finished: Path, tmp_path: Path) -> None:
    evil, proof, log = tmp_path / "evil.ckpt", tmp_path / "executed", tmp_path / "log.txt"
    torch.save({**GOOD, "x": Payload(proof)}, evil)
    for verb in ("fit", "test"):
        command = [verb, "--config", str(finished), "--run", str(tmp_path / "run"), "--ckpt_path", str(evil)]
        assert run(command, log=log) == 2
    assert log.read_text().count("refused") == 2
    assert not proof.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("largest_file", [500, 2_000, 8_000])
def test_a_full_disk_ends_in_one_sentence_and_nothing_half_written(tmp_path: Path, largest_file: int) -> None:
    # config.yaml, best.ckpt and last.ckpt take 1.4, 5.5 and 11 kB: another of them is refused each time.
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe, largest_file=largest_file) == 2
    log = (tmp_path / "log.txt").read_text()
    assert log.count("error: ") == 1
    assert "File too large" in log
    assert str(tmp_path / "run") in log
    assert "Traceback" not in log
    left = sorted(path for path in files(tmp_path / "run") if not path.startswith("tensorboard/"))
    assert (
        left
        == ["checkpoints/best.ckpt", "config.yaml", "metrics.csv"][
            {500: 3, 2_000: 1, 8_000: 0}[largest_file] :
        ]
    )
    assert not any(".part" in path or "last.ckpt" in path for path in left)
    assert fit(recipe, "--ckpt_path", "last") == 0
    assert "training starts from the beginning" in (tmp_path / "log.txt").read_text()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe, "--model.init_args.optimiser.lr", "1e30") == 2
    assert "error: the training loss became nan at step" in (tmp_path / "log.txt").read_text()
    assert "hint: lower model.init_args.optimiser.lr" in (tmp_path / "log.txt").read_text()


def test_fast_dev_run_leaves_no_trace(tmp_path: Path) -> None:
    recipe = tiny_recipe.recipe(tmp_path)
    assert fit(recipe, "--trainer.fast_dev_run", "true") == 0, (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "run").exists()
