"""``seqmamba bench``: time the operators beside other packages, each after a check against float64; plan."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmamba.cli import bench_generate, bench_plan
from seqmamba.cli.arguments import add_again, add_device, add_json, add_output
from seqmamba.errors import UserError
from seqmamba.finished import require_new

if TYPE_CHECKING:
    from seqmamba.benchmarks.comparison import Settings
    from seqmamba.benchmarks.operators import Operator
    from seqmamba.benchmarks.results import Comparison

HELP = "time the operators beside other packages, after a check of every result"

OPERATORS = {
    "scan": "the selective scan of Mamba",
    "bidirectional": "two selective scans, left to right and right to left, with one gate",
    "conv": "the causal depthwise convolution",
    "norm": "root-mean-square normalisation with a residual",
    "ssd": "the matrix form of Mamba-2's recurrence",
}
_GENERATE = "generation from a language model, one token after the other"
_PLAN = "what a pretraining would take on 8 to 512 GPUs"
_SECONDS = {"cuda": 2.0, "cpu": 3.0}
_DTYPES = {"cuda": "bfloat16", "cpu": "float32"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a sub-verb for each operator, ``generate``, ``plan``, ``table`` and ``plot``."""
    verbs = parser.add_subparsers(dest="bench_verb", metavar="OPERATOR", required=True)
    for name, summary in OPERATORS.items():
        _add_options(verbs.add_parser(name, help=summary, description=f"Time {summary}."), name)
    generate = verbs.add_parser("generate", help=_GENERATE, description=f"Time {_GENERATE}.")
    bench_generate.add_arguments(generate)
    planned = verbs.add_parser("plan", help=_PLAN, description=f"Estimate {_PLAN}.")
    bench_plan.add_arguments(planned)
    table = verbs.add_parser("table", help="print result files as Markdown")
    plot = verbs.add_parser("plot", help="draw result files of operators: throughput against length")
    for verb in (table, plot):
        verb.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON written by -o")
    add_output(plot, "FIGURE", "figure to write: .svg, .pdf or .png")
    add_again(plot, "FIGURE", resumes=False)


def _add_options(verb: argparse.ArgumentParser, name: str) -> None:
    verb.add_argument("--shapes", nargs="+", metavar="BxLxD", help="batch x length x channels")
    verb.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="of sequences")
    add_device(verb)
    verb.add_argument("--impls", nargs="+", metavar="NAME", help="ours; all that are fast enough if left out")
    verb.add_argument("--peers", nargs="*", metavar="NAME", help="other packages; all if left out")
    verb.add_argument(
        "--against", metavar="NAME", help="what ratios compare with; the first peer if left out"
    )
    verb.add_argument("--seconds", type=float, help="for the repeats of each candidate at each shape")
    verb.add_argument("--seed", type=int, default=0, help="of the inputs")
    add_output(verb, "FILE", "write everything as JSON", required=False)
    add_again(verb, "FILE", resumes=False)
    add_json(verb)
    if name in ("scan", "bidirectional", "ssd"):
        verb.add_argument("--state", type=int, help="state size")
    if name == "ssd":
        verb.add_argument("--head-dim", type=int, help="channels a head")
    if name == "conv":
        verb.add_argument("--width", type=int, help="taps")


def run(args: argparse.Namespace) -> int:
    """Run one sub-verb.

    Returns:
        0, or 1 if a result was wrong or one of our implementations failed.
    """
    if args.bench_verb == "table":
        return _print_tables(args.files)
    if args.bench_verb == "plot":
        return _draw(args)
    if args.bench_verb == "generate":
        return bench_generate.run(args)
    if args.bench_verb == "plan":
        return bench_plan.run(args)
    require_new(args.output, overwrite=args.overwrite)
    from seqmamba.benchmarks.comparison import compare
    from seqmamba.benchmarks.floors import measure_limits
    from seqmamba.benchmarks.machine import describe_run, load_average
    from seqmamba.benchmarks.operators import OPERATORS as operators
    from seqmamba.benchmarks.results import as_document, write
    from seqmamba.benchmarks.shapes import default_shapes, parse_shape
    from seqmamba.benchmarks.tables import comparison_text, header_text
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    settings, operator = _settings(args), operators[args.bench_verb]
    operator.implementations()  # says what is missing before anything is measured
    if args.shapes is None:
        shapes = default_shapes(operator.name, settings.device.type)
    else:
        shapes = [parse_shape(text) for text in args.shapes]
    limits = measure_limits(settings.device)
    header = {
        "operator": operator.name,
        "command": shlex.join(["seqmamba", *sys.argv[1:]]),
        "dtype": str(settings.dtype).removeprefix("torch."),
        "widths": _widths_in_use(operator.name, settings),
        "seed": settings.seed,
        "load_before": load_average(),
        **describe_run(settings.device, limits),
    }
    out = sys.stderr if args.json else sys.stdout
    print(header_text(header), file=out)
    comparisons: list[Comparison] = []
    document: dict[str, Any] = {}
    for shape in shapes:
        comparisons.append(compare(operator, shape, settings, limits))
        against = args.against or _usual_peer(operator, comparisons)
        document = as_document({**header, "load_after": load_average()}, comparisons, against)
        print(f"\n{comparison_text(document['comparisons'][-1], against)}", file=out, flush=True)
        if args.output is not None:
            write(args.output, document)  # after every shape: a later one may be interrupted
    if args.json:
        print(json.dumps(document))
    return int(any(_is_wrong(row) for comparison in document["comparisons"] for row in comparison["rows"]))


def _settings(args: argparse.Namespace) -> Settings:
    """Turn options into settings, with the device's defaults where they say nothing."""
    import torch

    from seqmamba.benchmarks.comparison import Settings
    from seqmamba.benchmarks.shapes import DEFAULT_STATE, Widths
    from seqmamba.training.hardware import find_device

    device = find_device(args.device)
    seconds = _SECONDS[device.type] if args.seconds is None else args.seconds
    if not seconds > 0:
        raise UserError(f"bench: --seconds must be positive, got {args.seconds}")
    given = {size: getattr(args, size, None) for size in ("state", "head_dim", "width")}
    sizes = {size: value for size, value in given.items() if value is not None}
    return Settings(
        device=device,
        dtype=getattr(torch, args.dtype or _DTYPES[device.type]),
        widths=Widths(**{"state": DEFAULT_STATE.get(args.bench_verb, Widths.state), **sizes}),
        seed=args.seed,
        impls=args.impls,
        peers=args.peers,
        seconds=seconds,
    )


def _widths_in_use(operator: str, settings: Settings) -> dict[str, int]:
    """The sizes beside the shape that the operator has."""
    sizes = {"conv": ("width",), "norm": (), "ssd": ("state", "head_dim")}.get(operator, ("state",))
    return {size: getattr(settings.widths, size) for size in sizes}


def _usual_peer(operator: Operator, comparisons: list[Comparison]) -> str | None:
    """The peer that ratios compare with where the command names none: the one with times at most shapes."""
    from seqmamba.benchmarks.peers import PEERS

    rows = (row for comparison in comparisons for row in comparison.rows)
    timed = [row.name for row in rows if row.kind == "peer" and row.status == "ok"]
    # the first of equals, in the order of PEERS
    return max(
        (peer.name for peer in PEERS[operator.name] if peer.name in timed), key=timed.count, default=None
    )


def _is_wrong(row: dict[str, Any]) -> bool:
    return row["status"] == "FAIL" or (row["status"] == "error" and row["kind"] == "seqmamba")


def _print_tables(files: list[Path]) -> int:
    from seqmamba.benchmarks.results import read
    from seqmamba.benchmarks.tables import markdown

    documents = [read(file) for file in files]
    tables = [
        bench_generate.markdown(document) if document["operator"] == "generate" else markdown(document)
        for document in documents
    ]
    print("\n\n".join(tables))
    return 0


def _draw(args: argparse.Namespace) -> int:
    from seqmamba.benchmarks.plots import throughput
    from seqmamba.benchmarks.results import read
    from seqmamba.report.figure_files import save_figure

    output: Path = args.output.expanduser()
    require_new(output, overwrite=args.overwrite)
    print(save_figure(throughput([read(file) for file in args.files]), output))
    return 0
