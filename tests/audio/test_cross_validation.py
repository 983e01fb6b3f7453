"""Every fold held out in turn, in one process or several, and the table of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tones import CLASSES, write_folder

from audio.cross_validation import CrossValidationPlan, held_out_values, run_plan, write_table
from seqmamba.cli.main import main
from seqmamba.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    write_folder(folder / "audio", per_class=9)
    rows = ["path,label,fold"]
    for name in CLASSES:
        paths = sorted((folder / "audio" / name).iterdir())
        rows += [f"audio/{name}/{path.name},{name},{int(path.stem) % 3 + 1}" for path in paths]
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    recipe = {
        "model": {
            "class_path": "audio.tasks.WaveformTask",
            "init_args": {
                "model": {
                    "backbone": {"d_model": 16, "n_layers": 1, "d_state": 4, "direction": "bidirectional"},
                    "stem": {"kernels": [32, 4], "strides": [8, 4], "widths": [16]},
                },
                "optimiser": {"lr": 0.01},
                "evaluation": {"baselines": False, "bootstrap": 20},
            },
        },
        "data": {
            "class_path": "audio.datasets.WaveformDataModule",
            "init_args": {
                "source": str(folder / "clips.csv"),
                "loading": {"batch_size": 6, "passes": 4},
            },
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_folds_run_apart_and_make_one_table(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audio", "cross-validate", "--config", str(config), "-o", str(tmp_path / "cv")]
    assert main([*words, "--only", "2"]) == 0
    assert "| 2 | 1 |" in capsys.readouterr().out
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "finished before" in err
    table = json.loads((tmp_path / "cv/table.json").read_text())
    assert [row["held out"] for row in table] == ["1", "2", "3", "all 3"]
    assert table[-1]["metrics"]["accuracy"]["value"] > 0.7
    folds = [row["metrics"]["accuracy"]["value"] for row in table[:-1]]
    assert f"mean accuracy of what is held out: {sum(folds) / 3:.4f}" in out
    saved = yaml.safe_load((tmp_path / "cv/runs/3_seed1/config.yaml").read_text())
    assert saved["data"]["init_args"]["split"]["test"] == ["3"]
    assert saved["data"]["init_args"]["split"]["validation"] == []


def test_the_fold_behind_the_held_out_one_validates(config: Path) -> None:
    plan = CrossValidationPlan((str(config),), Path("x"), seeds=(1, 2), validate=True)
    runs = list(plan.runs(held_out_values(config, "fold")))
    assert runs[:3] == [("1", 1, "2"), ("2", 1, "3"), ("3", 1, "1")]
    assert [seed for _, seed, _ in runs] == [1, 1, 1, 2, 2, 2]


def test_mistakes_are_named(config: Path, tmp_path: Path) -> None:
    def plan(**options) -> CrossValidationPlan:
        return CrossValidationPlan(**{"configs": (str(config),), "output": tmp_path / "cv"} | options)

    for options, message in (
        ({"only": ("9",)}, "the data have no fold 9; there are 1, 2, 3"),
        ({"by": "group"}, "its recordings have no group"),
        ({"configs": ("nothing.yaml",)}, "no such file or recipe"),
        ({"configs": ("genomics/oct4_mafk",)}, "is no recipe with data.init_args.source"),
    ):
        with pytest.raises(UserError, match=message):
            run_plan(plan(**options))
    with pytest.raises(UserError, match="seeds: expected at least one, each once"):
        plan(seeds=(1, 1))
    assert write_table(tmp_path / "none") == "no run is finished\n"
