from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recipes.catalogue import RECIPES
from recipes.genomics.oct4_mafk import prepare as oct4_mafk
from seqmamba.cli.main import main
from seqmamba.cli.recipes import find_config, find_recipe
from seqmamba.errors import UserError


def test_ls_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "ls"]) == 0
    printed = capsys.readouterr().out
    assert all(recipe.name in printed for recipe in RECIPES)


def test_show_prints_the_readme_and_every_yaml_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", "cds_intergenic"]) == 0
    printed = capsys.readouterr().out
    recipe = find_recipe("cds_intergenic")
    for file in ("README.md", *recipe.configs):
        assert (recipe.folder / file).read_text().strip() in printed


def test_cp_copies_what_can_be_edited(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    assert main(["recipes", "cp", "genomics/oct4_mafk", str(target)]) == 0
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == {
        *("README.md", "mamba.yaml", "prepare.py"),
        *("_trainer/cpu.yaml", "_trainer/gpu.yaml", "_trainer/context_parallel.yaml"),
    }


def test_cp_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert main(["recipes", "cp", "genomics/oct4_mafk", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("words", [["show"], ["prepare"], ["cp", "x"]])
def test_an_unknown_recipe(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", words[0], "oct5", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert "'oct5' is no recipe" in error
    assert "genomics/oct4_mafk" in error


def test_prepare_hands_over_the_folder_and_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[Path, Path | None]] = []

    def prepare(cache: Path, source: Path | None = None) -> Path:
        calls.append((cache, source))
        return cache / "oct4_mafk"

    monkeypatch.setattr(oct4_mafk, "prepare", prepare)
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path))
    assert main(["recipes", "prepare", "oct4_mafk", "--print-path"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'oct4_mafk'}\n"
    assert main(["recipes", "prepare", "genomics/oct4_mafk", "--source", str(tmp_path / "x.whl")]) == 0
    assert "seqmamba fit --config genomics/oct4_mafk" in capsys.readouterr().out
    assert calls == [(tmp_path, None), (tmp_path, tmp_path / "x.whl")]


def test_prepare_refuses_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQMAMBA_DATA", str(tmp_path / "data"))
    (tmp_path / "x.whl").write_text("not the wheel")
    assert main(["recipes", "prepare", "oct4_mafk", "--source", str(tmp_path / "x.whl")]) == 2
    assert "expected sha256 3825abe6" in capsys.readouterr().err
    assert not (tmp_path / "data" / "oct4_mafk").exists()


def test_names_of_yaml_files() -> None:
    recipe = find_recipe("genomics/cds_intergenic")
    assert find_config("genomics/cds_intergenic") == recipe.folder / "ecoli.yaml"
    for spelling in ("genomics/cds_intergenic/bjaponicum", "recipes/genomics/cds_intergenic/bjaponicum.yaml"):
        assert find_config(spelling) == recipe.folder / "bjaponicum.yaml"
    preset = find_config("_trainer/cpu")
    assert preset is not None
    assert preset == find_config("recipes/_trainer/cpu.yaml")
    for name in ("genomics/cds_intergenic/x", "_trainer/x", "ecoli", "cpu", "README"):
        assert find_config(name) is None


def test_short_names_must_be_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import recipes.catalogue

    twin = replace(RECIPES[0], name="audio/oct4_mafk")
    monkeypatch.setattr(recipes.catalogue, "RECIPES", (*RECIPES, twin))
    with pytest.raises(UserError, match="is the name of genomics/oct4_mafk and audio/oct4_mafk"):
        find_recipe("oct4_mafk")
    assert find_recipe("audio/oct4_mafk") == twin


def test_listing_and_copying_need_no_torch() -> None:
    code = (
        "import sys; from seqmamba.cli.main import main; main(['recipes', 'ls']);"
        " assert not {'torch', 'lightning', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
