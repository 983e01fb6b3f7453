"""``seqmamba genomics bench``: a published benchmark, over seeds and folds, as its papers did and soundly."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from seqmamba.cli.recipe_options import override
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
    parser.add_argument("--json", action="store_true", help="without NAME: list them as JSON")
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
        "--ensemble",
        type=int,
        default=1,
        metavar="N",
        help="train N models for each run, alike but for their seeds, and average their outputs (default: 1)",
    )
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
        choices=("mamba", "probe", "kmer", "cnn", "length_gc"),
        default="mamba",
        help="what to train; probe is a linear model on the vectors of --encoder (default: mamba)",
    )
    model.add_argument(
        "--encoder",
        metavar="RUN",
        help="frozen model of the probe, and of tasks on variants and tracks: run folder, folder with a "
        "model, or owner/name",
    )
    model.add_argument(
        "--device", default="auto", help="where --encoder runs: auto, cpu, cuda or cuda:N (default: auto)"
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
        _list(as_json=args.json)
        return 0
    if args.output is None:
        raise UserError("bench: expected -o FOLDER, where the runs and the table go")
    if args.seeds < 1:
        raise UserError(f"--seeds: expected at least 1, got {args.seeds}")
    from genomics.benchmarks.task_bench import TASKS

    if args.name.partition("@")[0] in TASKS:
        return _run_task(args)
    from genomics.cross_validation import BenchPlan, parse_genome, run_plan, with_seeds

    plan = BenchPlan(
        benchmark=args.name,
        output=args.output.expanduser(),
        source=args.source,
        genome=parse_genome(args.genome),
        model=args.model,
        label=args.label,
        protocols=_PROTOCOLS[args.protocol],
        ensemble=args.ensemble,
        folds=args.folds,
        clean=args.clean,
        tested=args.on,
        configs=tuple(args.config),
        overrides=tuple(word for assignment in args.set for word in override(assignment)),
        encoder=args.encoder,
        device=args.device,
    )
    print(run_plan(with_seeds(plan, args.seeds), overwrite=args.overwrite), end="")
    return 0


def _run_task(args: argparse.Namespace) -> int:
    """Run a task on variants or tracks, whose protocols are their own."""
    from genomics.benchmarks.task_bench import TaskPlan, run_task
    from seqmamba.training.hardware import limit_threads

    if args.encoder is None or len(args.genome) != 1:
        raise UserError(f"{args.name}: expected --encoder, the frozen model, and --genome, one FASTA file")
    if args.folds or args.config or args.set or args.model not in ("mamba", "probe"):
        raise UserError(f"{args.name}: takes neither --folds nor --model, --config and --set")
    limit_threads()
    plan = TaskPlan(
        name=args.name,
        output=args.output.expanduser(),
        encoder=args.encoder,
        genome=args.genome[0],
        source=args.source,
        protocols=_PROTOCOLS[args.protocol],
        seeds=args.seeds,
        device=args.device,
    )
    try:
        print(run_task(plan), end="")
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where this one stopped") from None
    return 0


def _list(*, as_json: bool) -> None:
    from genomics.benchmarks import BENCHMARKS
    from genomics.benchmarks.task_bench import TASKS

    if as_json:
        read = [
            {"name": name, "metric": one.metric, "windowed": one.windowed} for name, one in BENCHMARKS.items()
        ]
        frozen = [{"name": name, "metric": None, "windowed": True} for name in TASKS]
        print(json.dumps([*read, *frozen], indent=1))
        return
    width = max(map(len, [*BENCHMARKS, *TASKS]))
    for name, benchmark in BENCHMARKS.items():
        print(f"{name:{width}}  {benchmark.metric}{', NAME@BASES' if benchmark.windowed else ''}")
    for name in TASKS:
        print(f"{name:{width}}  of a frozen model: --encoder, NAME@BASES")
