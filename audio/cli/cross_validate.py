"""``seqmamba audio cross-validate --config RECIPE -o OUT``: every fold or speaker held out in turn."""

from __future__ import annotations

import argparse

from seqmamba.cli.arguments import add_output
from seqmamba.cli.recipe_options import override

HELP = "train and test a recipe with every fold or speaker held out in turn, and tabulate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--config",
        required=True,
        action="append",
        metavar="RECIPE",
        help="recipe, a file or a name; of several the last one wins",
    )
    add_output(parser, "FOLDER", "folder of runs and table; finished runs in it are not trained again")
    parser.add_argument(
        "--by", choices=("fold", "group"), default="fold", help="what is held out (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="hold out these only; other processes may run the others into the same folder",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], metavar="N", help="(default: 1)")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="let the fold behind the held-out one choose the epoch (default: all others train, and the "
        "last epoch is tested)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the recipe"
    )


def run(args: argparse.Namespace) -> int | None:
    """Run what is not finished, and print the table."""
    from audio.cross_validation import CrossValidationPlan, run_plan
    from audio.report import write_report

    plan = CrossValidationPlan(
        tuple(args.config),
        args.output.expanduser(),
        args.by,
        tuple(args.only),
        tuple(args.seeds),
        args.validate,
        tuple(word for assignment in args.set for word in override(assignment)),
    )
    print(run_plan(plan), end="")
    print(f"report: {write_report(args.output)}")
    return 0
