"""``seqmamba genomics bench``: a published benchmark, over seeds and folds, as its papers did and soundly."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from genomics.cli.fit import override
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from genomics.protocols import ProtocolName

HELP = "train and test on a published benchmark, over seeds and folds, and tabulate"

_PROTOCOLS: dict[str, tuple[ProtocolName, ...]] = {
    "paper": ("paper",),
    "sound": ("sound",),
    "both": ("paper", "sound"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", nargs="?", help="FAMILY/TASK, for example gue/mouse4; without it, list them")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder of runs and table")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--source", metavar="PATH", help="a copy of the release (default: what `recipes prepare` fetched)"
    )
    data.add_argument(
        "--genome",
        nargs="+",
        default=[],
        metavar="FASTA",
        help="genome of a release that is intervals; CLASS=FASTA where classes are on different ones",
    )
    _add_run_arguments(parser.add_argument_group("runs"))
    _add_model_arguments(parser.add_argument_group("model"))


def _add_run_arguments(runs: argparse._ArgumentGroup) -> None:
    runs.add_argument(
        "--protocol",
        choices=tuple(_PROTOCOLS),
        default="sound",
        help="as the papers did (quirks included and named), or sound (default), or both",
    )
    runs.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds (default: 1)")
    runs.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="K",
        help="cross-validate what is not the test part (default: 0, train once and test)",
    )
    runs.add_argument(
        "--clean",
        choices=("copies", "similar"),
        default="copies",
        help="what the sound protocol keeps out of training: copies of held-out sequences (default), or "
        "all that resembles one",
    )
    runs.add_argument(
        "--on",
        choices=("test", "validation"),
        default="test",
        help="official part to test on; validation leaves the test part out, to compare models before it is "
        "looked at (default: test)",
    )
    runs.add_argument("--overwrite", action="store_true", help="train again runs of other settings")


def _add_model_arguments(model: argparse._ArgumentGroup) -> None:
    model.add_argument(
        "--model",
        choices=("mamba", "kmer", "cnn", "length_gc"),
        default="mamba",
        help="what to train (default: mamba)",
    )
    model.add_argument("--label", default="", metavar="NAME", help="name of the model in the table")
    model.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="RECIPE",
        help="a recipe whose settings replace the defaults of mamba",
    )
    model.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of the recipe, for example --set trainer.max_epochs=3",
    )


def run(args: argparse.Namespace) -> int | None:
    """Run what is not finished, and print the table."""
    if args.name is None:
        _list()
        return 0
    if args.output is None:
        raise UserError("bench: expected -o FOLDER, where the runs and the table go")
    if args.seeds < 1:
        raise UserError(f"--seeds: expected at least 1, got {args.seeds}")
    from genomics.cross_validation import BenchPlan, parse_genome, run_plan, with_seeds

    plan = BenchPlan(
        benchmark=args.name,
        output=args.output.expanduser(),
        source=args.source,
        genome=parse_genome(args.genome),
        model=args.model,
        label=args.label,
        protocols=_PROTOCOLS[args.protocol],
        folds=args.folds,
        clean=args.clean,
        tested=args.on,
        configs=tuple(args.config),
        overrides=tuple(word for assignment in args.set for word in override(assignment)),
    )
    print(run_plan(with_seeds(plan, args.seeds), overwrite=args.overwrite), end="")
    return 0


def _list() -> None:
    from genomics.benchmarks import BENCHMARKS

    width = max(map(len, BENCHMARKS))
    for name, benchmark in BENCHMARKS.items():
        print(f"{name:{width}}  {benchmark.metric}")
