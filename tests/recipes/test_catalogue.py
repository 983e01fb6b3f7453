from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from genomics.benchmarks import BENCHMARKS
from recipes.audio.numbered_clips import NumberedClips
from recipes.catalogue import PRESETS, RECIPES, Recipe
from recipes.file_sets import FileSet
from recipes.prepared import Preparation

ROOT = Path(__file__).parents[2]

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def test_every_recipe_folder_is_in_the_catalogue() -> None:
    folders = {path.parent for path in (ROOT / "recipes").rglob("prepare.py")}
    assert folders == {recipe.folder for recipe in RECIPES}


@each_recipe
def test_its_yaml_files_are_the_ones_listed(recipe: Recipe) -> None:
    assert {path.name for path in recipe.folder.glob("*.yaml")} == set(recipe.configs)


@each_recipe
def test_its_readme_says_what_a_reader_needs(recipe: Recipe) -> None:
    text = (recipe.folder / "README.md").read_text()
    for heading in (
        "**Task.**",
        "**Data.**",
        "**Split.**",
        "**Licence of the data.**",
        "## Run it",
        "## Results",
    ):
        assert heading in text
    for command in (f"recipes prepare {recipe.name}", f"fit --config {recipe.name}", "--source"):
        assert command in text
    assert recipe.licence in text
    for config in recipe.configs[1:]:
        assert config.removesuffix(".yaml") in text


@each_recipe
def test_it_is_in_the_table_of_the_readme(recipe: Recipe) -> None:
    assert f"[{recipe.name}]({recipe.name})" in (ROOT / "recipes" / "README.md").read_text()


@each_recipe
def test_its_preparation(recipe: Recipe) -> None:
    module = import_module(recipe.prepare_module)
    preparation: Preparation | FileSet | NumberedClips = module.PREPARATION
    assert preparation.name == recipe.name.rpartition("/")[2]
    if isinstance(preparation, NumberedClips):  # of which no digest is known
        assert preparation.archive in (recipe.folder / "README.md").read_text()
        return
    several = isinstance(preparation, FileSet)
    sources = preparation.sources if several else (preparation.source,)
    assert sources
    assert all(len(source.sha256) == 64 for source in sources)
    named = preparation.base if several else preparation.source.filename
    assert named in (recipe.folder / "README.md").read_text()


def files_in(data: Any) -> Iterator[str]:
    """Yield every path of a recipe's data section, however deep."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from files_in(value)
    elif isinstance(data, str) and "/" in data:
        yield data


@each_recipe
def test_its_data_come_from_its_own_folder(recipe: Recipe) -> None:
    for config in recipe.configs:
        data = yaml.safe_load((recipe.folder / config).read_text())["data"]["init_args"]
        if "benchmark" in data:  # read from the folder of its family, unless a source is given
            assert data["benchmark"].partition("/")[0] == recipe.name.rpartition("/")[2]
            assert "source" not in data
            continue
        files = list(files_in(data))
        assert files
        for file in files:
            assert Path(file).parent == Path("${SEQMAMBA_DATA}", recipe.name.rpartition("/")[2])


def test_runs_of_different_recipes_do_not_share_a_folder() -> None:
    runs = [yaml.safe_load((r.folder / config).read_text())["run"] for r in RECIPES for config in r.configs]
    assert len(set(runs)) == len(runs)


def test_presets_only_set_the_trainer() -> None:
    presets = {path.stem: yaml.safe_load(path.read_text()) for path in PRESETS.glob("*.yaml")}
    assert set(presets) == {"cpu", "gpu", "context_parallel"}
    assert all(set(preset) <= {"trainer", "context_parallel"} for preset in presets.values())


def test_every_benchmark_family_is_fetched_by_a_recipe_or_says_where_it_is() -> None:
    recipes = {recipe.name.rpartition("/")[2] for recipe in RECIPES}
    for benchmark in BENCHMARKS.values():
        assert (benchmark.family in recipes) != bool(benchmark.release), benchmark.name
