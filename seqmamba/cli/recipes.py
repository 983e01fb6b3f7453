"""``seqmamba recipes ls | show | cp | prepare | run``: find a recipe, read, copy or run it, fetch its data.

Packages of recipes announce themselves in the entry-point group ``seqmamba.recipes``; an entry names a
package with a module ``catalogue`` that has ``RECIPES`` and ``PRESETS``. The core imports none of them by
name.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from seqmamba.cli import recipe_run
from seqmamba.cli.arguments import add_json
from seqmamba.cli.recipe_listing import as_json, listing, results_text
from seqmamba.cli.recipe_results import FILE, read_results
from seqmamba.errors import UserError
from seqmamba.paths import data_dir

HELP = "list, show, copy, prepare and run training recipes"
GROUP = "seqmamba.recipes"


class Recipe(Protocol):
    """What a catalogue tells about a recipe; see `recipes.catalogue.Recipe`."""

    @property
    def name(self) -> str:
        """``<domain>/<dataset>``."""

    @property
    def task(self) -> str:
        """What is predicted."""

    @property
    def data(self) -> str:
        """Size of the data set."""

    @property
    def split(self) -> str:
        """What is held out."""

    @property
    def licence(self) -> str:
        """Licence of the data."""

    @property
    def configs(self) -> tuple[str, ...]:
        """YAML files; the first is the default."""

    @property
    def folder(self) -> Path:
        """Where the files are."""

    @property
    def prepare_module(self) -> str:
        """Module with ``prepare(cache, source=None) -> Path``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the five verbs."""
    verbs = parser.add_subparsers(dest="recipes_verb", metavar="VERB", required=True)
    listing = verbs.add_parser("ls", help="list the recipes with their numbers")
    show = verbs.add_parser("show", help="print a recipe's README, YAML files and recorded numbers")
    for verb in (listing, show):
        add_json(verb)
    copy = verbs.add_parser("cp", help="copy a recipe into a folder of your own, to edit it")
    prepare = verbs.add_parser("prepare", help="fetch a recipe's data, verify them and write the data set")
    train = verbs.add_parser("run", help="prepare, train, test and report in one go; go on where it stopped")
    for verb in (show, copy, prepare):
        verb.add_argument("name", help="recipe, for example genomics/oct4_mafk")
    recipe_run.add_arguments(train)
    copy.add_argument("folder", type=Path, help="new folder to copy it into")
    prepare.add_argument(
        "--source", type=Path, metavar="PATH", help="a copy of the source file, instead of fetching it"
    )
    prepare.add_argument("--print-path", action="store_true", help="print nothing but the data set's folder")


def run(args: argparse.Namespace) -> int | None:
    """Run one of the five verbs."""
    verbs = {"ls": _list, "show": _show, "cp": _copy, "prepare": _prepare, "run": _run}
    verbs[args.recipes_verb](args)
    return None


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name, with or without its domain.

    Raises:
        UserError: If there is none, or if the short name is that of several.
    """
    recipes = list(_recipes())
    found = [recipe for recipe in recipes if name in _names(recipe)]
    if len(found) != 1:
        why = (
            "is no recipe" if not found else "is the name of " + " and ".join(recipe.name for recipe in found)
        )
        raise UserError(
            f"{name!r} {why}", hint=f"choose one of {', '.join(recipe.name for recipe in recipes)}"
        )
    return found[0]


def data_licences() -> dict[str, str]:
    """Return the licence of each recipe's data by the name of its data set."""
    return {recipe.name.rpartition("/")[2]: recipe.licence for recipe in _recipes()}


def find_recipe_of(name: str) -> tuple[Recipe, str]:
    """Return the recipe and the YAML file of a name that may name both, as in ``genomics/gue/mouse4``.

    Raises:
        UserError: If there is no such recipe, or it has no such file.
    """
    stem = name.removesuffix(".yaml")
    for recipe in _recipes():
        for config in recipe.configs:
            if stem in (f"{known}/{config.removesuffix('.yaml')}" for known in _names(recipe)):
                return recipe, config
    recipe = find_recipe(stem)
    return recipe, recipe.configs[0]


def find_config(name: str) -> Path | None:
    """Return the YAML file that a name on the command line stands for.

    ``genomics/oct4_mafk`` is that recipe's first YAML file, ``genomics/cds_intergenic/bjaponicum`` a named
    one and ``_trainer/cpu`` a trainer preset; ``.yaml`` may be added.

    Args:
        name: What was given for ``--config``.

    Returns:
        The file, or None if no recipe or preset has that name.
    """
    name = name.removeprefix("recipes/")
    stem = name.removesuffix(".yaml")
    for recipe in _recipes():
        if stem == recipe.name:
            return recipe.folder / recipe.configs[0]
        for config in recipe.configs:
            if stem == f"{recipe.name}/{config.removesuffix('.yaml')}":
                return recipe.folder / config
    for catalogue in _catalogues():
        preset = Path(catalogue.PRESETS) / f"{stem.removeprefix('_trainer/')}.yaml"
        if stem.startswith("_trainer/") and preset.is_file():
            return preset
    return None


class _Catalogue(Protocol):
    @property
    def RECIPES(self) -> Sequence[Recipe]: ...

    @property
    def PRESETS(self) -> Path: ...


def _catalogues() -> Iterator[_Catalogue]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield import_module(f"{entry.module}.catalogue")


def _names(recipe: Recipe) -> tuple[str, str]:
    """Return a recipe's name and its short name, without the domain."""
    return recipe.name, recipe.name.rpartition("/")[2]


def _recipes() -> Iterator[Recipe]:
    for catalogue in _catalogues():
        yield from catalogue.RECIPES


def _list(args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps([as_json(recipe) for recipe in _recipes()], indent=2, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(listing(_recipes(), width))


def _show(args: argparse.Namespace) -> None:
    recipe = find_recipe(args.name)
    if args.json:
        print(json.dumps(as_json(recipe), indent=2, ensure_ascii=False))
        return
    print((recipe.folder / "README.md").read_text().rstrip())
    for config in recipe.configs:
        print(f"\n--- {recipe.folder / config}\n")
        print((recipe.folder / config).read_text().rstrip())
    print(f"\n--- {recipe.folder / FILE}\n")
    print(results_text(read_results(recipe.folder)))


def _copy(args: argparse.Namespace) -> None:
    recipe = find_recipe(args.name)
    folder: Path = args.folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: exists already", hint="give a new or empty folder; nothing is overwritten"
        )
    # What is recorded are numbers of the recipe as it stands here, not of an edited copy.
    ignore = shutil.ignore_patterns("__pycache__", "__init__.py", "*.pyc", FILE)
    shutil.copytree(recipe.folder, folder, ignore=ignore, dirs_exist_ok=True)
    for catalogue in _catalogues():
        if recipe in catalogue.RECIPES:
            shutil.copytree(catalogue.PRESETS, folder / "_trainer", ignore=ignore)
    print(f"copied {recipe.name} to {folder}; train it with")
    print(f"  seqmamba fit --config {folder / recipe.configs[0]} --config {folder / '_trainer' / 'cpu.yaml'}")


def _prepare(args: argparse.Namespace) -> None:
    recipe = find_recipe(args.name)
    prepared = prepare_data(recipe, args.source)
    if args.print_path:
        print(prepared)
        return
    print(f"{recipe.name}: {prepared}")
    print(f"train it with: seqmamba fit --config {recipe.name}")


def prepare_data(recipe: Recipe, source: Path | None) -> Path:
    """Fetch and verify the data of a recipe, unless they are there.

    Args:
        recipe: The recipe.
        source: A copy of what it comes from; None fetches it.

    Returns:
        The folder of the data set.

    Raises:
        UserError: If the data cannot be had; the hint says how to put them there by hand.
    """
    copy = source.expanduser().resolve() if source else None
    prepared: Path = import_module(recipe.prepare_module).prepare(data_dir(), copy)
    return prepared


def _run(args: argparse.Namespace) -> None:
    recipe, config = find_recipe_of(args.name)
    recipe_run.run_recipe_files(recipe, config, args, prepare_data)
