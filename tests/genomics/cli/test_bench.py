"""``seqmamba genomics bench`` from the release's files to the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from release_files import write_fasta_classes, write_gue

from genomics.benchmarks.trainers import TRAINERS
from seqmamba.cli.main import main

# Lightning still calls what jsonargparse deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

TWO_STEPS = [
    *("--set", "trainer.max_steps=2", "--set", "trainer.accelerator=cpu"),
    *(
        "--set",
        "model.init_args.model.backbone.d_model=8",
        "--set",
        "model.init_args.model.backbone.n_layers=1",
    ),
    *("--set", "data.init_args.batch_size=8"),
]


def bench(folder: Path, *words: str) -> int:
    return main(
        [
            "genomics",
            "bench",
            "gue/mouse4",
            "--source",
            str(folder / "GUE"),
            "-o",
            str(folder / "out"),
            *words,
        ]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gue(tmp_path / "GUE" / "mouse" / "4")
    return tmp_path


def table(folder: Path) -> Any:
    return json.loads((folder / "out" / "table.json").read_text())


def test_both_protocols_over_seeds_and_a_simple_model_beside(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(folder, "--protocol", "both", *TWO_STEPS) == 0
    assert bench(folder, "--model", "length_gc", "--seeds", "2") == 0
    assert bench(folder, "--model", "length_gc", "--label", "validated", "--on", "validation") == 0
    rows = {(row["model"], row["protocol"]): row for row in table(folder)["rows"]}
    assert rows.pop(("validated", "sound"))["runs"] == ["sound_validation_seed42"]
    assert set(rows) == {("mamba", "paper"), ("mamba", "sound"), ("length_gc", "sound")}
    assert rows["mamba", "paper"]["runs"] == ["paper_seed42"]  # the paper's
    assert rows["length_gc", "sound"]["runs"] == ["sound_seed1", "sound_seed42"]
    assert len(rows["length_gc", "sound"]["scores"]["mcc"]["values"]) == 2
    assert rows["mamba", "sound"]["parameters"] > 0
    assert rows["mamba", "sound"]["tested"] == [8]
    assert (folder / "out/runs/mamba/paper_seed42/pretrained/config.json").is_file()
    assert "choose_by: mcc" in (folder / "out/runs/mamba/paper_seed42/config.yaml").read_text()
    assert "choose_by: loss" in (folder / "out/runs/mamba/sound_seed42/config.yaml").read_text()
    assert capsys.readouterr().out.endswith((folder / "out" / "table.md").read_text())


def test_finished_runs_stay_and_interrupted_ones_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []
    length_gc = TRAINERS["length_gc"]

    def interrupted(*args: Any, **options: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(str(args[4].path.name))
        length_gc(*args, **options)

    monkeypatch.setitem(TRAINERS, "length_gc", interrupted)
    words = ("--model", "length_gc", "--folds", "3")
    assert bench(folder, *words) == 130
    assert len(table(folder)["rows"][0]["runs"]) == 2
    assert "the same command goes on where this one stopped" in capsys.readouterr().err
    monkeypatch.setitem(TRAINERS, "length_gc", length_gc)
    before = (folder / "out/runs/length_gc/sound_folds3_seed42_fold0/results.json").stat().st_mtime_ns
    assert bench(folder, *words) == 0
    assert capsys.readouterr().err.count("finished before") == 2
    assert len(table(folder)["rows"][0]["runs"]) == 3
    assert (folder / "out/runs/length_gc/sound_folds3_seed42_fold0/results.json").stat().st_mtime_ns == before


def test_an_interrupted_training_goes_on_from_its_last_epoch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genomics.tasks import SequenceTask

    words = [word for word in TWO_STEPS if word != "trainer.max_steps=2"]
    words[words.index("--set")] = "--seeds"
    words.insert(1, "1")
    words += ["--set", "trainer.max_epochs=2"]
    start = SequenceTask.on_train_epoch_start

    def stop_in_the_second_epoch(self: SequenceTask) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        start(self)

    monkeypatch.setattr(SequenceTask, "on_train_epoch_start", stop_in_the_second_epoch)
    assert bench(folder, *words) == 130
    monkeypatch.undo()
    capsys.readouterr()
    assert bench(folder, *words) == 0
    errors = capsys.readouterr().err
    assert "resumed at step" in errors
    assert "epoch 1/2" not in errors
    assert "epoch 2/2" in errors


def test_other_settings_are_not_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(folder, "--model", "length_gc") == 0
    capsys.readouterr()
    assert bench(folder, "--model", "length_gc", "--clean", "similar") == 2
    assert "holds a run with another division" in capsys.readouterr().err
    assert bench(folder, "--model", "length_gc", "--clean", "similar", "--overwrite") == 0
    assert "finished before" not in capsys.readouterr().err
    assert bench(folder, "--model", "length_gc", "--label", "again") == 0
    assert [row["model"] for row in table(folder)["rows"]] == ["again", "length_gc"]
    write_fasta_classes(folder / "cnnprom", "Ecoli_non_prom.fa", "Ecoli_prom.fa")
    words = [
        "genomics",
        "bench",
        "cnnprom/ecoli_sigma70",
        "--source",
        str(folder / "cnnprom"),
        "--model",
        "length_gc",
    ]
    assert main([*words, "-o", str(folder / "out"), "--label", "third"]) == 2
    assert "is a run on gue/mouse4" in capsys.readouterr().err


def test_a_recipe_replaces_the_default_model_but_not_the_run(folder: Path) -> None:
    recipe = {
        "seed_everything": 7,
        "run": str(folder / "elsewhere"),
        "model": {"init_args": {"model": {"pooling": "mean", "stem_width": 5}}},
        "data": {
            "class_path": "genomics.benchmarks.BenchmarkDataModule",
            "init_args": {
                "benchmark": "gue/mouse0",
                "division": {"protocol": "sound", "seed": 9, "clean": "similar"},
                "batch_size": 4,
            },
        },
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    words = ("--config", str(folder / "mine.yaml"), "--protocol", "paper", "--folds", "2")
    assert bench(folder, *words, *TWO_STEPS[:-2]) == 0
    assert not (folder / "elsewhere").exists()
    run = folder / "out/runs/mamba/paper_folds2_seed42_fold1"
    model = json.loads((run / "pretrained/config.json").read_text())
    assert (model["pooling"], model["stem_width"]) == ("mean", 5)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed_everything"] == 42
    assert config["data"]["init_args"]["benchmark"] == "gue/mouse4"
    assert config["data"]["init_args"]["batch_size"] == 4
    assert config["data"]["init_args"]["division"] == {
        "protocol": "paper",
        "seed": 42,
        "folds": 2,
        "fold": 1,
        "clean": "copies",
        "tested": "test",
    }


def test_without_a_name_it_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genomics", "bench"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["gue/mouse4", "mcc"] for line in lines)
    assert main(["genomics", "bench", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listed] == [line.split()[0] for line in lines]
    assert {"name": "gue/mouse4", "metric": "mcc", "windowed": False} in listed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gue/mouse9", "-o", "x"], "'gue/mouse9' is no benchmark"),
        (["gue/mouse4"], "expected -o FOLDER"),
        (["gue/mouse4", "-o", "x", "--seeds", "0"], "--seeds: expected at least 1"),
        (["gue/mouse4", "-o", "x", "--folds", "1"], "division.folds"),
        (["gue/mouse4", "-o", "x", "--label", "a/b"], "label: expected a name for a folder"),
        (
            ["gue/mouse4", "-o", "x", "--model", "cnn", "--set", "a=1"],
            "recipes and their settings are for mamba",
        ),
        (
            ["gue/mouse4", "-o", "x", "--genome", "a=1", "b"],
            "--genome: expected one FASTA file or CLASS=FASTA",
        ),
        *[
            (["gue/mouse4", "-o", "x", "--set", f"{key}=1"], f"--set {key}: a benchmark run fixes {name}")
            for key, name in (
                ("seed_everything", "seed_everything"),
                ("data.init_args.division.protocol", "data.division"),
                ("data.division", "data.division"),
                ("data.init_args", "data.class_path"),
                ("data", "data.class_path"),
            )
        ],
        (
            ["gue/mouse4", "-o", "x", "--protocol", "both", "--set", "data.init_args.max_length=9"],
            "--set data.init_args.max_length: the paper protocol fixes data.max_length",
        ),
        (
            ["gue/mouse4", "-o", "x", "--protocol", "paper", "--set", "model.init_args.choose_by=loss"],
            "--set model.init_args.choose_by: the paper protocol fixes model.choose_by",
        ),
        (["gue/mouse4", "-o", "x", "--set", "a"], "--set a: expected KEY=VALUE"),
        (["gue/mouse4", "-o", "x", "--config", "mine"], "--config mine: there is no such file or recipe"),
    ],
)
def test_what_is_refused(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["genomics", "bench", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
