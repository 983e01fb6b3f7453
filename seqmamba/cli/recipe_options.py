"""Short options of a domain's ``fit`` verb for the keys of a recipe, and the training that follows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from seqmamba.cli.arguments import add_again
from seqmamba.cli.nulls import spell_nulls
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from seqmamba.training.choice import Choice
    from seqmamba.training.run_folder import RunFolder

Option = tuple[str, type | tuple[str, ...], str]
"""Recipe key, type or choices, help."""

_METAVARS = {int: "N", float: "X", str: "FOLDER"}
_SEED = "seed"
"""Beginning of the last part of keys whose numbers may be zero: ``seed_everything``, ``labels.seed``."""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run goes and what to do with one that is there."""
    parser.add_argument("-o", "--run", required=True, type=Path, metavar="RUN", help="run folder to write")
    add_again(parser, "the run that RUN holds")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the chosen settings and the recipe, and stop"
    )


def add_settings(group: argparse._ArgumentGroup, options: Mapping[str, Option]) -> None:
    """Add short options for recipe keys, and ``--set`` for all others.

    Args:
        group: Where they go.
        options: Option -> recipe key, type or choices, and help.
    """
    for option, (key, kind, text) in options.items():
        if isinstance(kind, tuple):
            group.add_argument(option, dest=key, choices=kind, help=text)
        else:
            group.add_argument(option, dest=key, type=kind, metavar=_METAVARS[kind], help=text)
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other key of the recipe, for example --set model.init_args.optimiser.weight_decay=0.1",
    )


def check_settings(args: argparse.Namespace, options: Mapping[str, Option]) -> None:
    """Refuse numbers that are not positive before the data are read.

    Raises:
        UserError: If there is one.
    """
    for option, (key, kind, _) in options.items():
        value = getattr(args, key)
        may_be_zero = key.rpartition(".")[2].startswith(_SEED)
        if kind in (int, float) and value is not None and value <= 0 and not may_be_zero:
            raise UserError(f"{option}: expected a positive number, got {value}")


def given_settings(args: argparse.Namespace, options: Mapping[str, Option]) -> dict[str, Any]:
    """Return recipe key -> value of the short options that were given."""
    return {key: getattr(args, key) for key, _, _ in options.values() if getattr(args, key) is not None}


def fit_run(
    args: argparse.Namespace,
    verb: str,
    *,
    example: str,
    has_data: bool,
    make_recipe: Callable[[argparse.Namespace], dict[str, Any]],
) -> RunFolder | None:
    """Train and test what a ``fit`` verb makes of its options, or go on with the run that is there.

    Args:
        args: With the options of `add_run_arguments` and `add_settings`.
        verb: The command, for the message after an interrupt.
        example: What follows it to start a run.
        has_data: Whether data were named, with which ``--resume`` may begin.
        make_recipe: Reads the data and returns the recipe, and prints what it chose.

    Returns:
        The run folder; None after ``--dry-run``, which prints the recipe.

    Raises:
        UserError: If a run is in the way, or there is none to go on with.
    """
    from seqmamba.training.run_folder import RunFolder

    folder = RunFolder(args.run.expanduser())
    _check_folder(args, folder, has_data=has_data, example=f"{verb} {example}")
    again = f"{verb} -o {folder.path} --resume"
    if args.resume and folder.config.is_file():
        if args.dry_run:
            print(folder.config.read_text("utf-8"), end="")
            return None
        _resume_training(folder, again)
        return folder
    recipe = make_recipe(args)
    if args.dry_run:
        print(f"\n{recipe_text(recipe, args.set)}", end="")
        return None
    _train_recipe(recipe, args, folder, again)
    return folder


def _check_folder(args: argparse.Namespace, folder: RunFolder, *, has_data: bool, example: str) -> None:
    """Refuse to begin where a run is, or to go on where none is.

    Args:
        args: With the options of `add_run_arguments`.
        folder: The run folder.
        has_data: Whether data were named, with which ``--resume`` may begin.
        example: A command line that starts a run.

    Raises:
        UserError: In either case.
    """
    if args.resume and not folder.config.is_file() and not has_data:
        raise UserError(f"--resume: {folder.path} holds no run", hint=f"start one: {example}")
    if folder.last.exists() and not (args.resume or args.overwrite or args.dry_run):
        raise UserError(
            f"--run {folder.path} already holds a run",
            hint="add --resume to go on with it, --overwrite to replace it, or name another folder",
        )


def override(assignment: str) -> list[str]:
    """Turn the value of ``--set`` into the words that the training of recipes takes.

    Raises:
        UserError: If it is no ``KEY=VALUE``.
    """
    key, separator, value = assignment.partition("=")
    if not separator or not key:
        raise UserError(f"--set {assignment}: expected KEY=VALUE")
    return [f"--{key}", value]


def assign(recipe: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key of a recipe, with the sections that it needs."""
    *path, last = key.split(".")
    for name in path:
        recipe = recipe.setdefault(name, {})
    recipe[last] = value


def build_data(recipe: Mapping[str, Any], assignments: Sequence[str]) -> Any:
    """Build the data module of a recipe as its training is going to: with the values of ``--set`` on top.

    Args:
        recipe: With a ``data`` section.
        assignments: The values of ``--set``; those of other sections play no part.

    Returns:
        The data module, before its setup.

    Raises:
        UserError: If a key or value does not fit.
    """
    import json

    from jsonargparse import ArgumentError, ArgumentParser
    from lightning import LightningDataModule

    from seqmamba.cli.config_errors import explain_config_error

    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_subclass_arguments(LightningDataModule, "data", required=True)
    overrides = [word for assignment in assignments for word in _override_of("data", assignment)]
    words = ["--data", json.dumps(recipe["data"]), *overrides]
    try:
        return parser.instantiate_classes(parser.parse_args(spell_nulls(words))).data
    except ArgumentError as error:
        raise explain_config_error(str(error), ["fit", *overrides], []) from error


def _override_of(section: str, assignment: str) -> list[str]:
    option, value = override(assignment)
    return [option, value] if option.split(".")[0] == f"--{section}" else []


def recipe_text(recipe: dict[str, Any], assignments: Sequence[str] = ()) -> str:
    """Return a recipe as YAML, with the values of ``--set`` that go on top as comments below."""
    import yaml

    comments = [f"# --set {assignment}\n" for assignment in assignments]
    return "".join([yaml.safe_dump(recipe, sort_keys=False), *comments])


def print_settings(
    choices: Sequence[Choice], given: Mapping[str, Any], assignments: Sequence[str] = ()
) -> None:
    """Print every setting with its reason: what was given wins over what was chosen.

    Args:
        choices: What was chosen.
        given: Recipe key -> value of the short options that were given.
        assignments: The values of ``--set``, which win over both.
    """
    given = {**given, **dict(assignment.split("=", 1) for assignment in assignments)}
    rows = [(choice.key, choice.value, choice.reason) for choice in choices if choice.key not in given]
    rows += [(key, value, "given") for key, value in given.items()]
    width = max(len(key) for key, _, _ in rows)
    print("settings")
    for key, value, reason in rows:
        print(f"  {key:{width}}  {value!s:>13}  {reason}")
    sys.stdout.flush()


def _train_recipe(recipe: dict[str, Any], args: argparse.Namespace, folder: RunFolder, resume: str) -> None:
    """Train and test a recipe with the words of ``--set`` and ``--overwrite`` on top.

    Args:
        recipe: The recipe.
        args: With the options of `add_run_arguments` and `add_settings`.
        folder: The run folder.
        resume: A command line that goes on, for the message after an interrupt.
    """
    options = [word for assignment in args.set for word in override(assignment)]
    if args.overwrite:
        options += ["--overwrite", "true"]
    # Training copies the recipe to RUN/config.yaml once it is known to work; a refused one leaves no folder.
    with TemporaryDirectory(prefix="seqmamba-") as scratch:
        file = Path(scratch) / "recipe.yaml"
        file.write_text(recipe_text(recipe), encoding="utf-8")
        _train_and_test(folder, ["--config", str(file), *options], resume)


def _resume_training(folder: RunFolder, resume: str) -> None:
    """Go on with the run of a folder, and test it; its own recipe decides."""
    print(f"resuming: {folder.config} decides; other options are not used", file=sys.stderr)
    _train_and_test(folder, ["--config", str(folder.config), "--ckpt_path", "last"], resume)


def _train_and_test(folder: RunFolder, options: Sequence[str], resume: str) -> None:
    """Train with the words of a command line, then test the best epoch.

    Raises:
        KeyboardInterrupt: After an interrupt; its argument says how to go on.
    """
    from seqmamba.cli.lightning import run_lightning

    run = ["--run", str(folder.path)]
    try:
        run_lightning(["fit", *options, *run])
        run_lightning(["test", "--config", str(folder.config), *run, "--ckpt_path", "best"])
    except KeyboardInterrupt:
        if not folder.config.is_file():
            raise
        raise KeyboardInterrupt(f"go on with: {resume}") from None
