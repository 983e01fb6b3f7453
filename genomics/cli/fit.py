"""``seqmamba genomics fit``: from FASTA files to a trained, tested and reported model in one command."""

from __future__ import annotations

import argparse
from typing import Any

from genomics.cli.layouts import add_layout_arguments, layout
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
    build_data,
    check_settings,
    fit_run,
    given_settings,
    print_settings,
)

HELP = "train a model on your sequences, test it and write a report"

_MODEL = "model.init_args.model"
_DATA = "data.init_args"
OPTIONS: dict[str, Option] = {
    "--epochs": ("trainer.max_epochs", int, "passes over the training part"),
    "--lr": ("model.init_args.optimiser.lr", float, "peak learning rate"),
    "--batch-size": (f"{_DATA}.batch_size", int, "sequences in a batch"),
    "--d-model": (f"{_MODEL}.backbone.d_model", int, "channels of the model"),
    "--layers": (f"{_MODEL}.backbone.n_layers", int, "Mamba blocks"),
    "--d-state": (f"{_MODEL}.backbone.d_state", int, "state size of each channel"),
    "--stem-width": (f"{_MODEL}.stem_width", int, "bases that the first layer sees at once, odd"),
    "--frames": (
        f"{_MODEL}.frames",
        int,
        "3 reads codons in all reading frames (coding DNA), 1 single bases",
    ),
    "--pooling": (
        f"{_MODEL}.pooling",
        ("mean", "max", "mean_max", "attention"),
        "how positions become one vector",
    ),
    "--strand": (
        f"{_MODEL}.strand",
        ("forward", "augment", "conjoin", "equivariant"),
        "as given, random in training, both averaged after training, or both always",
    ),
    "--max-length": (f"{_DATA}.max_length", int, "crop longer sequences to their centre"),
    "--split": (
        f"{_DATA}.split.by",
        ("auto", "column", "chromosome", "block", "similarity", "random"),
        "what keeps alike sequences in one part",
    ),
    "--block-size": (f"{_DATA}.split.block_size", int, "bases of a block; a split by block keeps each whole"),
    **INIT_OPTIONS,
    **DISTIL_OPTIONS,
    "--seed": ("seed_everything", int, "seed of everything random"),
    "--accelerator": ("trainer.accelerator", ("auto", "cpu", "gpu"), "where to train"),
}
"""Short names of common settings: option -> recipe key, type or choices, help."""

_OF_THE_BACKBONE = ("--d-model", "--layers", "--d-state", "--stem-width")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_layout_arguments(parser)
    add_run_arguments(parser)
    group = parser.add_argument_group("settings (chosen from the data where not given)")
    add_settings(group, OPTIONS)
    for part in ("test", "validation"):
        group.add_argument(
            f"--{part}", nargs="+", metavar="CHROM", help=f"chromosomes to hold out for {part}"
        )
    add_freeze(group)
    group.add_argument("--no-baselines", action="store_true", help="do not train the simple models")


def run(args: argparse.Namespace) -> int | None:
    """Choose settings, write the recipe, train, test and report."""
    check_settings(args, OPTIONS)
    check_init(args, OPTIONS, _OF_THE_BACKBONE)
    named = bool(args.files or args.fasta or args.bed)
    folder = fit_run(
        args, "seqmamba genomics fit", example="POS.fa NEG.fa -o RUN", has_data=named, make_recipe=_recipe
    )
    if folder is None:
        return 0
    print(f"model:        {folder.pretrained}")
    print(f"predictions:  {folder.predictions}")
    print(f"report:       {folder.report}")
    return 0


def _recipe(args: argparse.Namespace) -> dict[str, Any]:
    """Read the data, choose what they decide, and put the user's settings on top."""
    import torch

    from genomics.defaults import choose

    given = given_settings(args, OPTIONS)
    recipe: dict[str, Any] = {
        "seed_everything": 1,
        "run": str(args.run),
        "model": {"class_path": "genomics.tasks.SequenceTask", "init_args": {}},
        "data": {"class_path": "genomics.datasets.SequenceDataModule", "init_args": layout(args)},
        "trainer": {"accelerator": "auto", "devices": 1},
    }
    for part in ("test", "validation"):
        if getattr(args, part):
            assign(recipe, f"{_DATA}.split.{part}", getattr(args, part))
    for key, value in given.items():
        assign(recipe, key, value)
    module = build_data(recipe, args.set)
    module.setup()
    gpu = torch.cuda.is_available() and getattr(args, "trainer.accelerator") != "cpu"
    choices = choose(module.records.tokens.lengths[module.part("train")], gpu=gpu)
    if getattr(args, f"{INIT}.folder") is not None:
        choices = [choice for choice in choices if not choice.key.startswith(f"{_MODEL}.backbone")]
    else:
        assign(recipe, f"{_MODEL}.backbone.direction", "bidirectional")
    assign_freeze(recipe, args)
    if args.no_baselines:
        assign(recipe, "model.init_args.evaluation.baselines", False)
    for choice in choices:
        if choice.key not in given:
            assign(recipe, choice.key, choice.value)
    _print_summary(module)
    print_settings(choices, given, args.set)
    return recipe


def _print_summary(module: Any) -> None:
    """Print the data and the split."""
    from genomics.evaluation import summarise_data, summarise_split

    data = summarise_data(module.records)
    lengths = data.lengths
    counts = ", ".join(f"{number:,} {name}" for name, number in data.per_class.items())
    print(f"task:   {module.task} of {data.n:,} sequences{f' ({counts})' if counts else ''}")
    print(
        f"length: {lengths['min']:,} to {lengths['max']:,}, median {lengths['median']:,.0f}; GC {data.gc:.1%}"
    )
    print(f"split:  {module.explanation}")
    for part, numbers in summarise_split(module).counts.items():
        print(f"        {part}: {', '.join(f'{number:,} {name}' for name, number in numbers.items())}")
    print(f"leaks:  {module.leaks.summary()}")
    for note in module.notes:
        print(f"note:   {note}")
