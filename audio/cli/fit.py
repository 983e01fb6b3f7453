"""``seqmamba audio fit FOLDER -o RUN``: from a folder of recordings to a trained and tested model."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from audio.cli.generator import generates, generator_recipe, write_samples
from audio.cli.pretraining import pretraining_recipe
from seqmamba.cli.init_options import INIT, INIT_OPTIONS, add_freeze, assign_freeze, check_init
from seqmamba.cli.recipe_options import (
    Option,
    add_run_arguments,
    add_settings,
    assign,
    check_folder,
    check_settings,
    given_settings,
    print_settings,
    recipe_text,
    resume_training,
    train_recipe,
)
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from audio.datasets import WaveformDataModule

HELP = "train a classifier, a generative model or one to begin with on your recordings and test it"

_TASK = "model.init_args"
_MODEL = f"{_TASK}.model"
_DATA = "data.init_args"
_LOADING = f"{_DATA}.loading"
_LABELS = f"{_DATA}.labels"
OPTIONS: dict[str, Option] = {
    "--epochs": ("trainer.max_epochs", int, "epochs of training"),
    "--lr": (f"{_TASK}.optimiser.lr", float, "peak learning rate"),
    "--batch-size": (f"{_LOADING}.batch_size", int, "recordings in a batch"),
    "--d-model": (f"{_MODEL}.backbone.d_model", int, "channels of the model"),
    "--layers": (f"{_MODEL}.backbone.n_layers", int, "Mamba blocks"),
    "--d-state": (f"{_MODEL}.backbone.d_state", int, "state size of each channel"),
    "--pooling": (
        f"{_MODEL}.pooling",
        ("mean", "max", "mean_max", "attention"),
        "how frames become one vector",
    ),
    "--rate": (f"{_LOADING}.rate", int, "sampling rate in Hz (default: that of most recordings)"),
    "--channels": (f"{_LOADING}.channels", int, "channels: 1 averages them (default: 1)"),
    "--task": (
        f"{_DATA}.task",
        ("auto", "classification", "multilabel", "regression", "generation", "masked"),
        "what the labels mean; generation: a model that makes such recordings, of a class if they have one; "
        "masked: a model that guesses hidden stretches, for --init-from",
    ),
    "--seconds": (f"{_TASK}.augmentation.seconds", float, "train on stretches of this length"),
    "--crops": (f"{_TASK}.crops", int, "with --seconds: stretches of a recording that testing averages"),
    "--mixing": (f"{_TASK}.mixing.kind", ("none", "mixup", "between_class"), "mix training recordings"),
    "--split": (
        f"{_DATA}.split.by",
        ("auto", "split", "fold", "group", "random"),
        "what the parts go by",
    ),
    "--pattern": (
        f"{_DATA}.files.pattern",
        str,
        "regular expression that finds label, group, split or fold in file names: (?P<label>...)",
    ),
    "--labels-per-class": (f"{_LABELS}.per_class", int, "train on so many recordings of each class only"),
    "--labels-share": (f"{_LABELS}.share", float, "train on this share of the recordings only"),
    "--labels-seed": (f"{_LABELS}.seed", int, "seed of which ones (default: 0)"),
    **INIT_OPTIONS,
    "--seed": ("seed_everything", int, "seed of everything random"),
    "--accelerator": ("trainer.accelerator", ("auto", "cpu", "gpu"), "where to train"),
}
"""Short names of common settings: option -> recipe key, type or choices, help."""

_OF_THE_ENCODER = ("--d-model", "--layers", "--d-state")
_EXAMPLE = "seqmamba audio fit FOLDER -o RUN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="FOLDER",
        help="folder with a folder of recordings for each class, a table (.csv, .tsv, .jsonl), or with "
        "--task generation or masked any folder of recordings",
    )
    add_run_arguments(parser)
    group = parser.add_argument_group("settings (chosen from the data where not given)")
    add_settings(group, OPTIONS)
    group.add_argument("--test", nargs="+", metavar="NAME", help="folds or groups to hold out for testing")
    group.add_argument(
        "--validation", nargs="*", metavar="NAME", help="those that choose the epoch; none without a name"
    )
    group.add_argument("--rates", nargs="+", type=int, metavar="HZ", help="test at other sampling rates, too")
    add_freeze(group)
    group.add_argument("--no-baselines", action="store_true", help="do not train the simple model")


def run(args: argparse.Namespace) -> int | None:
    """Choose settings, write the recipe, train and test."""
    from seqmamba.training.run_folder import RunFolder

    folder = RunFolder(args.run.expanduser())
    check_settings(args, OPTIONS)
    check_init(args, OPTIONS, _OF_THE_ENCODER)
    check_folder(args, folder, has_data=args.source is not None, example=_EXAMPLE)
    again = f"seqmamba audio fit -o {folder.path} --resume"
    if args.resume and folder.config.is_file():
        resume_training(folder, again)
    else:
        recipe = _recipe(args)
        if args.dry_run:
            print(f"\n{recipe_text(recipe)}", end="")
            return 0
        train_recipe(recipe, args, folder, again)
    if generates(folder):
        from audio.report import write_report

        write_samples(folder)
        write_report(folder.path)  # once more, now with something to listen to
    print(f"model:        {folder.pretrained}")
    if folder.predictions.is_file():
        print(f"predictions:  {folder.predictions}")
    print(f"results:      {folder.results}")
    print(f"report:       {folder.report}")
    return 0


def _recipe(args: argparse.Namespace) -> dict[str, Any]:
    """Read the data, choose what they decide, and put the user's settings on top."""
    import torch

    from audio.defaults import BACKBONE, STEM, choose

    if args.source is None:
        raise UserError("FOLDER: expected a folder of recordings or a table", hint=_EXAMPLE)
    given = given_settings(args, OPTIONS)
    other = {"generation": generator_recipe, "masked": pretraining_recipe}.get(given.get(f"{_DATA}.task", ""))
    if other is not None:
        return other(args, given, {key: option for option, (key, _, _) in OPTIONS.items()})
    module = _read(args, given)
    gpu = torch.cuda.is_available() and getattr(args, "trainer.accelerator") != "cpu"
    choices = choose(module.seconds[module.assignment == "train"], module.rate, gpu=gpu)
    recipe: dict[str, Any] = {
        "seed_everything": 1,
        "run": str(args.run),
        "model": {"class_path": "audio.tasks.WaveformTask", "init_args": {}},
        "data": {"class_path": "audio.datasets.WaveformDataModule", "init_args": {"source": args.source}},
        "trainer": {"accelerator": "auto", "devices": 1},
    }
    if f"{INIT}.folder" in given:
        choices = [choice for choice in choices if not choice.key.startswith((BACKBONE, STEM))]
    else:
        assign(recipe, f"{BACKBONE}.direction", "bidirectional")
    assign_freeze(recipe, args)
    assign(recipe, _LOADING, {"damaged": "leave_out", "rate": module.rate, "channels": module.channels})
    assign(recipe, f"{_DATA}.split", _split(args, given))
    if args.no_baselines:
        assign(recipe, f"{_TASK}.evaluation.baselines", False)
    if args.rates:
        assign(recipe, f"{_TASK}.evaluation.rates", args.rates)
    for choice in choices:
        assign(recipe, choice.key, choice.value)
    for key, value in given.items():
        assign(recipe, key, value)
    _print_summary(module)
    print_settings(choices, given)
    return recipe


def _read(args: argparse.Namespace, given: dict[str, Any]) -> WaveformDataModule:
    """Find, divide and decode the recordings, at the rate of the pretrained model if there is one."""
    from audio.datasets import LoadingConfig, WaveformDataModule
    from audio.few_labels import LabelConfig
    from audio.manifests import SourceConfig
    from audio.splits import SplitConfig
    from audio.targets import no_labels

    loading: dict[str, Any] = {"damaged": "leave_out"}
    if f"{INIT}.folder" in given:
        from audio.finetuning import read_encoder

        encoder = read_encoder(given[f"{INIT}.folder"])
        loading |= {"rate": encoder.rate, "channels": encoder.channels}
    module = WaveformDataModule(
        args.source,
        SourceConfig(**_below(given, f"{_DATA}.files")),
        given.get(f"{_DATA}.task", "auto"),
        loading=LoadingConfig(**(loading | _below(given, _LOADING))),
        split=SplitConfig(**_split(args, given)),
        labels=LabelConfig(**_below(given, _LABELS)),
    )
    module.setup()
    if module.task == "unlabelled":
        raise no_labels()
    return module


def _split(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    by = {"by": "auto", "test": args.test or [], "validation": args.validation}
    return by | _below(given, f"{_DATA}.split")


def _below(given: dict[str, Any], section: str) -> dict[str, Any]:
    """Return the given settings of a section, by their names in it."""
    return {
        key.removeprefix(f"{section}."): value
        for key, value in given.items()
        if key.startswith(f"{section}.")
    }


def _print_summary(module: WaveformDataModule) -> None:
    """Print the data and the split."""
    from audio.evaluation import summarise_data, summarise_split

    data = summarise_data(module)
    counts = ", ".join(f"{number:,} {name}" for name, number in data.per_class.items())
    lengths = data.seconds
    print(f"task:   {module.task} of {data.n:,} recordings{f' ({counts})' if counts else ''}")
    print(
        f"sound:  {lengths['min']:.3g} to {lengths['max']:.3g} s, median {lengths['median']:.3g} s, "
        f"{lengths['total'] / 60:,.1f} min; {data.rate:,} Hz"
    )
    print(f"split:  {module.explanation}")
    for part, numbers in summarise_split(module).counts.items():
        print(f"        {part}: {', '.join(f'{number:,} {name}' for name, number in numbers.items())}")
    for note in module.notes:
        print(f"note:   {note}")
    sys.stdout.flush()
