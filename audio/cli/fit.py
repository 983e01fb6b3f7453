"""``seqmamba audio fit FOLDER -o RUN``: from a folder of recordings to a trained and tested model."""

from __future__ import annotations

import argparse
from typing import Any

from audio.cli.fit_recipes import (
    DATA,
    LOADING,
    MODEL,
    SECONDS,
    TASK,
    begin_recipe,
    durations,
    print_summary,
    read_data,
    settle_recipe,
    tally,
    trains_on_gpu,
)
from audio.cli.generator import generates, generator_recipe, write_samples
from audio.cli.pretraining import pretraining_recipe
from seqmamba.cli.init_options import (
    DISTIL_OPTIONS,
    INIT,
    INIT_OPTIONS,
    add_freeze,
    assign_freeze,
    check_init,
)
from seqmamba.cli.recipe_options import (
    Option,
    add_run_arguments,
    add_settings,
    assign,
    check_settings,
    fit_run,
    given_settings,
)
from seqmamba.errors import UserError

HELP = "train a classifier, a generative model or one to begin with on your recordings and test it"

OPTIONS: dict[str, Option] = {
    "--epochs": ("trainer.max_epochs", int, "epochs of training"),
    "--lr": (f"{TASK}.optimiser.lr", float, "peak learning rate"),
    "--batch-size": (f"{LOADING}.batch_size", int, "recordings in a batch"),
    "--d-model": (f"{MODEL}.backbone.d_model", int, "channels of the model"),
    "--layers": (f"{MODEL}.backbone.n_layers", int, "Mamba blocks"),
    "--d-state": (f"{MODEL}.backbone.d_state", int, "state size of each channel"),
    "--direction": (
        f"{MODEL}.backbone.direction",
        ("bidirectional", "causal"),
        "causal: hear only what was before, for a timeline with a carried state (default: bidirectional)",
    ),
    "--pooling": (
        f"{MODEL}.pooling",
        ("mean", "max", "mean_max", "attention"),
        "how frames become one vector",
    ),
    "--rate": (f"{LOADING}.rate", int, "sampling rate in Hz (default: that of most recordings)"),
    "--channels": (f"{LOADING}.channels", int, "channels: 1 averages them (default: 1)"),
    "--task": (
        f"{DATA}.task",
        ("auto", "classification", "multilabel", "regression", "generation", "masked"),
        "what the labels mean; generation: a model that makes such recordings, of a class if they have one; "
        "masked: a model that guesses hidden stretches, for --init-from",
    ),
    "--seconds": (SECONDS, float, "train on stretches of this length"),
    "--crops": (f"{TASK}.crops", int, "with --seconds: stretches of a recording that testing averages"),
    "--mixing": (f"{TASK}.mixing.kind", ("none", "mixup", "between_class"), "mix training recordings"),
    "--split": (
        f"{DATA}.split.by",
        ("auto", "split", "fold", "group", "random"),
        "what the parts go by",
    ),
    "--pattern": (
        f"{DATA}.files.pattern",
        str,
        "regular expression that finds label, group, split or fold in file names: (?P<label>...)",
    ),
    "--labels-per-class": (f"{DATA}.labels.per_class", int, "train on so many recordings of each class only"),
    "--labels-share": (f"{DATA}.labels.share", float, "train on this share of the recordings only"),
    "--labels-seed": (f"{DATA}.labels.seed", int, "seed of which ones (default: 0)"),
    **INIT_OPTIONS,
    **DISTIL_OPTIONS,
    "--seed": ("seed_everything", int, "seed of everything random"),
    "--accelerator": ("trainer.accelerator", ("auto", "cpu", "gpu"), "where to train"),
}
"""Short names of common settings: option -> recipe key, type or choices, help."""

_OF_THE_ENCODER = ("--d-model", "--layers", "--d-state", "--direction")
_VERB = "seqmamba audio fit"
_EXAMPLE = "FOLDER -o RUN"


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
    check_settings(args, OPTIONS)
    check_init(args, OPTIONS, _OF_THE_ENCODER)
    named = args.source is not None
    folder = fit_run(args, _VERB, example=_EXAMPLE, has_data=named, make_recipe=_recipe)
    if folder is None:
        return 0
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
    if args.source is None:
        raise UserError("FOLDER: expected a folder of recordings or a table", hint=f"{_VERB} {_EXAMPLE}")
    given = given_settings(args, OPTIONS)
    other = {"generation": generator_recipe, "masked": pretraining_recipe}.get(given.get(f"{DATA}.task", ""))
    if other is None:
        return _classifier_recipe(args, given)
    del given[f"{DATA}.task"]
    return other(args, given, {key: option for option, (key, _, _) in OPTIONS.items()})


def _classifier_recipe(args: argparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
    from audio.defaults import BACKBONE, STEM, choose
    from audio.evaluation import summarise_data
    from audio.targets import no_labels

    defaults: dict[str, Any] = {f"{BACKBONE}.direction": "bidirectional"}
    decided: tuple[str, ...] = ()
    if f"{INIT}.folder" in given:
        from audio.finetuning import read_encoder

        encoder = read_encoder(given[f"{INIT}.folder"])
        defaults = {f"{LOADING}.rate": encoder.rate, f"{LOADING}.channels": encoder.channels}
        decided = (BACKBONE, STEM)
    recipe = begin_recipe(args, given, "audio.tasks.WaveformTask", defaults)
    assign_freeze(recipe, args)
    if args.no_baselines:
        assign(recipe, f"{TASK}.evaluation.baselines", False)
    if args.rates:
        assign(recipe, f"{TASK}.evaluation.rates", args.rates)
    module = read_data(args, recipe)
    if module.task == "unlabelled":
        raise no_labels()
    causal = given.get(f"{BACKBONE}.direction") == "causal"
    chosen = choose(durations(module), module.rate, gpu=trains_on_gpu(args), causal=causal)
    counts = tally(summarise_data(module).per_class)
    recordings = f"{module.task} of {len(module.names):,} recordings"
    print_summary(module, f"{recordings} ({counts})" if counts else recordings)
    choices = [choice for choice in chosen if not choice.key.startswith(decided)] if decided else chosen
    settle_recipe(args, recipe, given, choices)
    return recipe
