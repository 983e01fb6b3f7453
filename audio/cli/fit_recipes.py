"""What every kind of ``audio fit`` does: begin a recipe, read the data as training will, and settle it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from seqmamba.cli.recipe_options import assign, build_data, print_settings
from seqmamba.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from audio.datasets import WaveformDataModule
    from seqmamba.training.choice import Choice

TASK = "model.init_args"
MODEL = f"{TASK}.model"
DATA = "data.init_args"
LOADING = f"{DATA}.loading"
SECONDS = f"{TASK}.augmentation.seconds"
_FROM_DISK = f"{LOADING}.storage=disk"  # to choose settings nothing needs to be decoded and kept


def begin_recipe(
    args: argparse.Namespace, given: Mapping[str, Any], task_class: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a recipe with the data that were named and the settings that were given.

    Args:
        args: The options of ``audio fit``.
        given: The settings among them, by recipe key.
        task_class: Class path of the task.
        defaults: Other settings; what was given wins.
    """
    recipe: dict[str, Any] = {
        "seed_everything": 1,
        "run": str(args.run),
        "model": {"class_path": task_class, "init_args": {}},
        "data": {"class_path": "audio.datasets.WaveformDataModule", "init_args": {"source": args.source}},
        "trainer": {"accelerator": "auto", "devices": 1},
    }
    assign(recipe, LOADING, {"damaged": "leave_out"})
    assign(recipe, f"{DATA}.split", {"by": "auto", "test": args.test or [], "validation": args.validation})
    for key, value in {**defaults, **given}.items():
        assign(recipe, key, value)
    return recipe


def read_data(args: argparse.Namespace, recipe: dict[str, Any]) -> WaveformDataModule:
    """Find and divide the recordings of a recipe, with ``--set`` on top, and set the rate that they gave.

    Args:
        args: The options of ``audio fit``.
        recipe: The recipe.

    Raises:
        UserError: If there are none to train on, or they do not fit the recipe.
    """
    module = cast("WaveformDataModule", build_data(recipe, [*args.set, _FROM_DISK]))
    module.setup()
    if not len(module.part("train")):
        raise UserError(f"split: leaves nothing to train on: {module.explanation}")
    assign(recipe, f"{LOADING}.rate", module.rate)
    return module


def durations(module: WaveformDataModule) -> np.ndarray:
    """Return the seconds of each training recording (n,)."""
    return module.seconds[module.part("train")]


def trains_on_gpu(args: argparse.Namespace) -> bool:
    """Return whether there is a GPU, and it may be used."""
    import torch

    return torch.cuda.is_available() and getattr(args, "trainer.accelerator") != "cpu"


def settle_recipe(
    args: argparse.Namespace, recipe: dict[str, Any], given: Mapping[str, Any], choices: Sequence[Choice]
) -> None:
    """Set what was chosen unless it was given, and print every setting with its reason.

    Args:
        args: The options of ``audio fit``.
        recipe: The recipe.
        given: The settings that were given.
        choices: What was chosen from the data.
    """
    for choice in choices:
        if choice.key not in given:
            assign(recipe, choice.key, choice.value)
    print_settings(choices, given, args.set)


def refuse_for_classifiers(
    args: argparse.Namespace,
    given: Mapping[str, Any],
    names: Mapping[str, str],
    kept: tuple[str, ...],
    task: str,
) -> None:
    """Refuse settings that are for classifiers only.

    Args:
        args: The options of ``audio fit``.
        given: The settings among them, by recipe key.
        names: The option of each key.
        kept: What the keys that may be given begin with.
        task: The value of ``--task``.

    Raises:
        UserError: If there is one.
    """
    for key in given:
        if not key.startswith(kept):
            raise UserError(f"{names[key]}: is for classifiers, and --task {task} has no use for it")
    if args.rates or args.no_baselines:
        raise UserError(f"--rates, --no-baselines: are for classifiers, not for --task {task}")


def tally(counts: Mapping[str, int]) -> str:
    """Return counts in words that classes named by numbers do not confuse.

    Args:
        counts: How many there are of each class.
    """
    return ", ".join(f"{name}: {number:,}" for name, number in counts.items())


def print_summary(module: WaveformDataModule, what: str) -> None:
    """Print the data and the split.

    Args:
        module: The data, set up.
        what: What is learned of them.
    """
    from audio.evaluation import summarise_data, summarise_split

    lengths = summarise_data(module).seconds
    print(f"task:   {what}")
    print(
        f"sound:  {lengths['min']:.3g} to {lengths['max']:.3g} s, median {lengths['median']:.3g} s, "
        f"{lengths['total'] / 60:,.1f} min; {module.rate:,} Hz"
    )
    print(f"split:  {module.explanation}")
    for part, numbers in summarise_split(module).counts.items():
        print(f"        {part:10}  {tally(numbers)}")
    for note in module.notes:
        print(f"note:   {note}")
    sys.stdout.flush()
