"""``seqmamba recipes ls | show | cp | prepare``: find a recipe, read it, copy it, fetch its data.

Packages of recipes announce themselves in the entry-point group ``seqmamba.recipes``; an entry names a
package with a module ``catalogue`` that has ``RECIPES`` and ``PRESETS``. The core imports none of them by
name.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from seqmamba.errors import UserError
from seqmamba.paths import data_dir

HELP = "list, show, copy and prepare training recipes"
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
    def published(self) -> str:
        """The number to beat."""

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
    """Add the four verbs."""
    verbs = parser.add_subparsers(dest="recipes_verb", metavar="VERB", required=True)
    verbs.add_parser("ls", help="list the recipes")
    show = verbs.add_parser("show", help="print a recipe's README and YAML files")
    copy = verbs.add_parser("cp", help="copy a recipe into a folder of your own, to edit it")
    prepare = verbs.add_parser("prepare", help="fetch a recipe's data, verify them and write the data set")
    for verb in (show, copy, prepare):
        verb.add_argument("name", help="recipe, for example genomics/oct4_mafk")
    copy.add_argument("folder", type=Path, help="new folder to copy it into")
    prepare.add_argument(
        "--source", type=Path, metavar="PATH", help="a copy of the source file, instead of fetching it"
    )
    prepare.add_argument("--print-path", action="store_true", help="print nothing but the data set's folder")


def run(args: argparse.Namespace) -> int | None:
    """Run one of the four verbs."""
    verbs = {"ls": _list, "show": _show, "cp": _copy, "prepare": _prepare}
    verbs[args.recipes_verb](args)
    return None


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name, with or without its domain.

    Raises:
        UserError: If there is none, or if the short name is that of several.
    """
    recipes = list(_recipes())
    found = [recipe for recipe in recipes if name in (recipe.name, recipe.name.rpartition("/")[2])]
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


def _recipes() -> Iterator[Recipe]:
    for catalogue in _catalogues():
        yield from catalogue.RECIPES


def _list(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe", no_wrap=True)
    for heading in ("task", "data", "held out", "to beat"):
        table.add_column(heading, ratio=1)
    for recipe in _recipes():
        table.add_row(recipe.name, recipe.task, recipe.data, recipe.split, recipe.published)
    Console().print(table)


def _show(args: argparse.Namespace) -> None:
    recipe = find_recipe(args.name)
    print((recipe.folder / "README.md").read_text().rstrip())
    for config in recipe.configs:
        print(f"\n--- {recipe.folder / config}\n")
        print((recipe.folder / config).read_text().rstrip())


def _copy(args: argparse.Namespace) -> None:
    recipe = find_recipe(args.name)
    folder: Path = args.folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: exists already", hint="give a new or empty folder; nothing is overwritten"
        )
    ignore = shutil.ignore_patterns("__pycache__", "__init__.py", "*.pyc")
    shutil.copytree(recipe.folder, folder, ignore=ignore, dirs_exist_ok=True)
    for catalogue in _catalogues():
        if recipe in catalogue.RECIPES:
            shutil.copytree(catalogue.PRESETS, folder / "_trainer", ignore=ignore)
    print(f"copied {recipe.name} to {folder}; train it with")
    print(f"  seqmamba fit --config {folder / recipe.configs[0]} --config {folder / '_trainer' / 'cpu.yaml'}")


def _prepare(args: argparse.Namespace) -> None:
    recipe = find_recipe(args.name)
    source = args.source.expanduser().resolve() if args.source else None
    prepared = import_module(recipe.prepare_module).prepare(data_dir(), source)
    if args.print_path:
        print(prepared)
        return
    print(f"{recipe.name}: {prepared}")
    print(f"train it with: seqmamba fit --config {recipe.name}")
