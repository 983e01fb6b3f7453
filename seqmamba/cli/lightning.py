"""``seqmamba fit | validate | test | predict``: run a recipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seqmamba.cli.config_errors import check_yaml, explain_config_error
from seqmamba.cli.nulls import spell_nulls
from seqmamba.cli.recipes import find_config
from seqmamba.errors import UserError

_CONFIG = ("-c", "--config")


def run_lightning(argv: Sequence[str]) -> int:
    """Run a recipe as the command line would.

    Args:
        argv: ``fit``, ``validate``, ``test`` or ``predict`` and its options, e.g.
            ``["fit", "--config", "recipe.yaml", "--run", "runs/mine", "--ckpt_path", "last"]``.

    Returns:
        0.

    Raises:
        UserError: When the recipe does not parse or cannot run.
        KeyboardInterrupt: After an interrupt; its argument says how to go on.
    """
    words = _with_recipe_files([*argv[:1], *_config_of_run(argv), *argv[1:]])
    files = _config_files(words)
    check_yaml(files)
    from jsonargparse import ArgumentError

    from seqmamba.training.recipe import run_recipe

    try:
        run_recipe(spell_nulls(words))
    except ArgumentError as error:
        raise explain_config_error(str(error), words, files) from error
    return 0


def _with_recipe_files(words: Sequence[str]) -> list[str]:
    """Put the file in the place of a recipe's name, as in ``--config genomics/oct4_mafk``."""
    replaced = list(words)
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        if i and words[i - 1] in _CONFIG:
            option, value = "", word
        elif not (equals and option in _CONFIG):
            continue
        found = None if Path(value).expanduser().is_file() else find_config(value)
        if found is not None:
            replaced[i] = f"{option}{equals}{found}" if option else str(found)
    return replaced


def _config_files(words: Sequence[str]) -> list[Path]:
    return [Path(value).expanduser() for value in _values(words, *_CONFIG)]


def _config_of_run(words: Sequence[str]) -> list[str]:
    """Name RUN/config.yaml where a run is named and no recipe is."""
    runs = _values(words, "-o", "--run")
    if not runs or _values(words, *_CONFIG):
        return []
    config = Path(runs[-1]).expanduser() / "config.yaml"
    if not config.is_file():
        if words[0] == "fit":
            return []
        raise UserError(f"--run {runs[-1]}: there is no run in this folder", hint="`seqmamba fit` makes one")
    print(f"recipe: {config}", file=sys.stderr)
    return ["--config", str(config)]


def _values(words: Sequence[str], *names: str) -> list[str]:
    following = [words[i + 1] for i, word in enumerate(words[:-1]) if word in names]
    joined = [word.split("=", 1)[1] for word in words if word.split("=", 1)[0] in names and "=" in word]
    return following + joined
