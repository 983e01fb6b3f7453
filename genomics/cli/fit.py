"""``seqmamba genomics fit``: from FASTA files to a trained, tested and reported model in one command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from genomics.cli.layouts import add_layout_arguments, layout
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from genomics.defaults import Choice
    from seqmamba.training.run_folder import RunFolder

HELP = "train a model on your sequences, test it and write a report"

_MODEL = "model.init_args.model"
_DATA = "data.init_args"
_INIT = "model.init_args.init_from"
OPTIONS: dict[str, tuple[str, type | tuple[str, ...], str]] = {
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
    "--pooling": (f"{_MODEL}.pooling", ("mean", "max", "mean_max"), "how positions become one vector"),
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
    "--init-from": (
        f"{_INIT}.folder",
        str,
        "run folder, model folder or repository to take the backbone from",
    ),
    "--lr-decay": (
        f"{_INIT}.lr_decay",
        float,
        "with --init-from: factor of the learning rate from block to block",
    ),
    "--lora-rank": (
        f"{_INIT}.lora_rank",
        int,
        "with --init-from: train updates of this rank and not the backbone",
    ),
    "--seed": ("seed_everything", int, "seed of everything random"),
    "--accelerator": ("trainer.accelerator", ("auto", "cpu", "gpu"), "where to train"),
}
"""Short names of common settings: option -> recipe key, type or choices, help."""

_METAVARS = {int: "N", float: "X", str: "FOLDER"}
_OF_THE_BACKBONE = ("--d-model", "--layers", "--d-state", "--stem-width")
_OF_THE_PRETRAINED = ("--lr-decay", "--lora-rank", "--freeze")
_MAY_BE_ZERO = ("--seed",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_layout_arguments(parser)
    parser.add_argument("-o", "--run", required=True, type=Path, metavar="RUN", help="run folder to write")
    parser.add_argument("--resume", action="store_true", help="go on with the run that RUN holds")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that RUN holds")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the chosen settings and the recipe, and stop"
    )
    group = parser.add_argument_group("settings (chosen from the data where not given)")
    for option, (key, kind, text) in OPTIONS.items():
        if isinstance(kind, tuple):
            group.add_argument(option, dest=key, choices=kind, help=text)
        else:
            group.add_argument(option, dest=key, type=kind, metavar=_METAVARS[kind], help=text)
    for part in ("test", "validation"):
        group.add_argument(
            f"--{part}", nargs="+", metavar="CHROM", help=f"chromosomes to hold out for {part}"
        )
    group.add_argument(
        "--freeze", action="store_true", help="with --init-from: train the head and leave the rest as it is"
    )
    group.add_argument("--no-baselines", action="store_true", help="do not train the simple models")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other key of the recipe, for example --set model.init_args.optimiser.weight_decay=0.1",
    )


def run(args: argparse.Namespace) -> int | None:
    """Choose settings, write the recipe, train, test and report."""
    from seqmamba.training.run_folder import RunFolder

    folder = RunFolder(args.run.expanduser())
    _check(args, folder)
    if args.resume and folder.config.is_file():
        print(f"resuming: {folder.config} decides; other options are not used", file=sys.stderr)
        return _train(folder, ["--config", str(folder.config), "--ckpt_path", "last"])
    recipe = _recipe(args)
    if args.dry_run:
        print(f"\n{_yaml(recipe)}", end="")
        return 0
    options = [word for assignment in args.set for word in override(assignment)]
    if args.overwrite:
        options += ["--overwrite", "true"]
    # Training copies the recipe to RUN/config.yaml once it is known to work; a refused one leaves no folder.
    with TemporaryDirectory(prefix="seqmamba-") as scratch:
        file = Path(scratch) / "recipe.yaml"
        file.write_text(_yaml(recipe), encoding="utf-8")
        return _train(folder, ["--config", str(file), *options])


def _check(args: argparse.Namespace, folder: RunFolder) -> None:
    """Refuse what can be refused before the data are read."""
    for option, (key, kind, _) in OPTIONS.items():
        value = getattr(args, key)
        if kind in (int, float) and value is not None and value <= 0 and option not in _MAY_BE_ZERO:
            raise UserError(f"{option}: expected a positive number, got {value}")
    _check_init(args)
    if args.resume and not folder.config.is_file() and not (args.files or args.fasta or args.bed):
        raise UserError(
            f"--resume: {folder.path} holds no run",
            hint="start one: seqmamba genomics fit POS.fa NEG.fa -o RUN",
        )
    if folder.last.exists() and not (args.resume or args.overwrite or args.dry_run):
        raise UserError(
            f"--run {folder.path} already holds a run",
            hint="add --resume to go on with it, --overwrite to replace it, or name another folder",
        )


def _check_init(args: argparse.Namespace) -> None:
    """Refuse options that need a pretrained model without one, and those that it decides with one."""
    given = [option for option, (key, _, _) in OPTIONS.items() if getattr(args, key) is not None]
    if "--init-from" in given:
        clash = next((option for option in given if option in _OF_THE_BACKBONE), None)
        if clash is not None:
            raise UserError(f"{clash}: not used with --init-from, since the pretrained model decides it")
        return
    given += ["--freeze"] if args.freeze else []
    lonely = next((option for option in given if option in _OF_THE_PRETRAINED), None)
    if lonely is not None:
        raise UserError(f"{lonely}: needs --init-from, the pretrained model that it is about")


def _recipe(args: argparse.Namespace) -> dict[str, Any]:
    """Read the data, choose what they decide, and put the user's settings on top."""
    import torch

    from genomics.datasets.module import SequenceDataModule
    from genomics.defaults import choose
    from genomics.splits import SplitConfig

    data = layout(args)
    split = {"test": args.test, "validation": args.validation}
    split |= {name: getattr(args, f"{_DATA}.split.{name}") for name in ("by", "block_size")}
    split = {key: value for key, value in split.items() if value}
    module = SequenceDataModule(**data, split=SplitConfig(**split))
    module.setup()
    gpu = torch.cuda.is_available() and getattr(args, "trainer.accelerator") != "cpu"
    choices = choose(module.records.tokens.lengths[module.part("train")], gpu=gpu)
    recipe: dict[str, Any] = {
        "seed_everything": 1,
        "run": str(args.run),
        "model": {"class_path": "genomics.tasks.SequenceTask", "init_args": {}},
        "data": {"class_path": "genomics.datasets.SequenceDataModule", "init_args": data},
        "trainer": {"accelerator": "auto", "devices": 1},
    }
    pretrained = getattr(args, f"{_INIT}.folder") is not None
    if pretrained:
        choices = [choice for choice in choices if not choice.key.startswith(f"{_MODEL}.backbone")]
    else:
        _assign(recipe, f"{_MODEL}.backbone.direction", "bidirectional")
    if args.freeze:
        _assign(recipe, f"{_INIT}.freeze", True)
    if split:
        _assign(recipe, f"{_DATA}.split", split)
    if args.no_baselines:
        _assign(recipe, "model.init_args.evaluation.baselines", False)
    for choice in choices:
        _assign(recipe, choice.key, choice.value)
    given = {key: getattr(args, key) for key, _, _ in OPTIONS.values() if getattr(args, key) is not None}
    for key, value in given.items():
        _assign(recipe, key, value)
    _print_summary(module, choices, given)
    return recipe


def _train(folder: RunFolder, options: list[str]) -> int:
    from seqmamba.cli.lightning import run_lightning

    run = ["--run", str(folder.path)]
    try:
        run_lightning(["fit", *options, *run])
        run_lightning(["test", "--config", str(folder.config), *run, "--ckpt_path", "best"])
    except KeyboardInterrupt:
        if not folder.config.is_file():
            raise
        raise KeyboardInterrupt(f"go on with: seqmamba genomics fit -o {folder.path} --resume") from None
    print(f"model:        {folder.pretrained}")
    print(f"predictions:  {folder.predictions}")
    print(f"report:       {folder.report}")
    return 0


def override(assignment: str) -> list[str]:
    """Turn the value of ``--set`` into the words that the training of recipes takes.

    Raises:
        UserError: If it is no ``KEY=VALUE``.
    """
    key, separator, value = assignment.partition("=")
    if not separator or not key:
        raise UserError(f"--set {assignment}: expected KEY=VALUE")
    return [f"--{key}", value]


def _assign(recipe: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        recipe = recipe.setdefault(name, {})
    recipe[last] = value


def _print_summary(module: Any, choices: list[Choice], given: dict[str, Any]) -> None:
    """Print the data, the split and every setting with its reason."""
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
    rows = [(c.key, c.value, c.reason) for c in choices if c.key not in given]
    rows += [(key, value, "given") for key, value in given.items()]
    width = max(len(key) for key, _, _ in rows)
    print("settings")
    for key, value, reason in rows:
        print(f"  {key:{width}}  {value!s:>13}  {reason}")
    sys.stdout.flush()


def _yaml(recipe: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(recipe, sort_keys=False))
