"""``seqmamba recipes run RECIPE``: data, training, test and report, each only if it is not done yet."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmamba.atomic import atomic_path
from seqmamba.cli.recipe_options import override
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from seqmamba.cli.recipes import Recipe
    from seqmamba.training.run_folder import RunFolder

STATE = ".recipe.json"
"""Hidden file of a run folder: what the run is of, and which parts are done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "name", help="recipe or one of its YAML files, for example genomics/cds_intergenic/bjaponicum"
    )
    parser.add_argument(
        "-o", "--run", type=Path, metavar="RUN", help="run folder (default: the one that the recipe names)"
    )
    parser.add_argument("--source", type=Path, metavar="PATH", help="a copy of the data, instead of fetching")
    parser.add_argument(
        "--preset",
        choices=("auto", "cpu", "gpu", "none"),
        default="auto",
        help="trainer preset; auto takes that of a GPU if there is one (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the recipe, for example --set trainer.max_epochs=2; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="start again, replacing the run of RUN")


def run_recipe_files(
    recipe: Recipe, config: str, args: argparse.Namespace, prepare: Callable[[Recipe, Path | None], Path]
) -> None:
    """Run a recipe to its report.

    Args:
        recipe: The recipe.
        config: Its YAML file.
        args: With the options of `add_arguments`.
        prepare: Fetches the data of a recipe.

    Raises:
        UserError: If the data cannot be had, the run folder holds another run, or the recipe cannot run.
        KeyboardInterrupt: After an interrupt; its argument says how to go on.
    """
    from seqmamba.training.run_folder import RunFolder

    folder = RunFolder((args.run or _usual_run(recipe.folder / config)).expanduser())
    identity = {"recipe": recipe.name, "config": config, "set": list(args.set)}
    done = [] if args.overwrite else _done(folder, identity)
    try:
        _say("data", f"{prepare(recipe, args.source)}")
        if "fit" in done:
            _say("fit", "done before")
        else:
            _fit(recipe, config, args, folder, identity)
            done = ["fit"]
            _note(folder, identity, done)
        if "test" in done:
            _say("test", "done before")
        else:
            from seqmamba.cli.lightning import run_lightning

            best = "best" if folder.best.is_file() else "last"
            run_lightning(["test", "--run", str(folder.path), "--ckpt_path", best])
            _note(folder, identity, [*done, "test"])
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"go on with: {_again(args)}") from None
    _conclude(recipe, folder)


def _fit(
    recipe: Recipe, config: str, args: argparse.Namespace, folder: RunFolder, identity: dict[str, Any]
) -> None:
    """Train from the start, or go on where an interrupted training stopped; then its own recipe decides."""
    from seqmamba.cli.lightning import run_lightning

    run = ["--run", str(folder.path)]
    if folder.last.exists() and not args.overwrite:
        _say("fit", f"goes on from {folder.last}")
        run_lightning(["fit", "--config", str(folder.config), "--ckpt_path", "last", *run])
        return
    words = ["--config", str(recipe.folder / config)]
    if (preset := _preset(args.preset)) is not None:
        words += ["--config", f"_trainer/{preset}"]
    words += [word for assignment in args.set for word in override(assignment)]
    if args.overwrite:
        words += ["--overwrite", "true"]
    with _noted(folder, identity):
        run_lightning(["fit", *words, *run])


def _preset(choice: str) -> str | None:
    if choice != "auto":
        return None if choice == "none" else choice
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _usual_run(config: Path) -> Path:
    import yaml

    return Path(yaml.safe_load(config.read_text("utf-8")).get("run", "runs/latest"))


def _done(folder: RunFolder, identity: dict[str, Any]) -> list[str]:
    """Return the parts that are done, and refuse a folder that holds another run.

    Raises:
        UserError: If it does, or nothing says what its run is of.
    """
    hint = "name another folder with -o, or start again with --overwrite"
    state = folder.path / STATE
    if not folder.last.exists():
        return []
    if not state.is_file():
        raise UserError(f"{folder.path}: holds a run that `recipes run` did not start", hint=hint)
    try:
        content = json.loads(state.read_text("utf-8"))
        before, done = {key: content[key] for key in identity}, list(content["done"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{state}: says nothing of a run", hint=hint) from None
    for key, now in identity.items():
        if before[key] != now:
            raise UserError(f"{folder.path}: its {key} was {before[key]}, now it is {now}", hint=hint)
    return done


def _note(folder: RunFolder, identity: dict[str, Any], done: Sequence[str]) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder.path / STATE) as part:
        part.write_text(json.dumps({**identity, "done": list(done)}) + "\n", encoding="utf-8")


@contextmanager
def _noted(folder: RunFolder, identity: dict[str, Any]) -> Iterator[None]:
    """Say in the run folder what starts there; take it back if the recipe is refused before it starts."""
    state, began = folder.path / STATE, _stamp(folder.config)
    before = state.read_text("utf-8") if state.is_file() else None
    _note(folder, identity, [])
    try:
        yield
    except UserError:
        if _stamp(folder.config) == began:
            if before is not None:
                state.write_text(before, encoding="utf-8")
            else:
                state.unlink()
                with suppress(OSError):  # it holds something else
                    folder.path.rmdir()
        raise


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _conclude(recipe: Recipe, folder: RunFolder) -> None:
    """Print where everything is, and the numbers that are recorded of the recipe."""
    from seqmamba.cli.recipe_listing import number_text
    from seqmamba.cli.recipe_results import read_results

    print(f"run: {folder.path}")
    for name, path in (("results", folder.results), ("report", folder.report)):
        if path.is_file():
            print(f"{name}: {path}")
    results = read_results(recipe.folder)
    for label, row in (("to beat", results.to_beat), ("recorded", results.ours)):
        if row is not None:
            where = f", {row.part}" if row.part else ""
            print(f"{label}: {row.metric} {number_text(row)} ({row.model}{where})")


def _again(args: argparse.Namespace) -> str:
    words = ["seqmamba", "recipes", "run", args.name]
    if args.run is not None:
        words += ["-o", str(args.run)]
    if args.preset != "auto":
        words += ["--preset", args.preset]
    return shlex.join([*words, *(word for assignment in args.set for word in ("--set", assignment))])


def _say(part: str, text: str) -> None:
    print(f"{part}: {text}", file=sys.stderr)
