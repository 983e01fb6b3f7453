"""``seqmamba genomics attribute RUN X.fa -o OUT``: which bases made a model answer as it did."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from genomics.cli.arguments import add_computing, add_places, add_target, check_places, read_items
from seqmamba.cli.arguments import add_again, add_model, add_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genomics.attribution_run import Explained
    from genomics.embedding_inputs import Item

HELP = "score every base by what it adds to a prediction, to bigWig, bedGraph, npz or tsv, with logos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser, hub=False)
    parser.add_argument("fasta", nargs="?", metavar="FASTA", help="sequences to explain, plain or gzip")
    add_places(parser)
    add_output(
        parser,
        "OUT",
        "file to write: .bw, .bedgraph[.gz], .npz or .tsv (positions from 0); overlapping sequences are "
        "averaged in tracks",
    )
    parser.add_argument(
        "--method",
        default="gradient_x_input",
        choices=("gradient_x_input", "integrated_gradients", "ism"),
        help="ism replaces every base by every other: exact, three passes a base (default: %(default)s)",
    )
    add_target(parser)
    parser.add_argument(
        "--both-strands", action="store_true", help="average with the scores of the reverse complement"
    )
    parser.add_argument(
        "--central", type=int, metavar="N", help="explain the N bases in the middle of each sequence"
    )
    parser.add_argument(
        "--steps", type=int, default=32, metavar="N", help="of integrated gradients (default: %(default)s)"
    )
    add_computing(parser)
    add_again(parser, resumes=False)
    parser.add_argument(
        "--plot", type=Path, metavar="FOLDER", help="draw a track and a logo of the first sequences, as SVG"
    )
    parser.add_argument("--plots", type=int, default=20, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--strand-report", type=Path, metavar="TSV", help="write f(x) and f(rc x) of every sequence"
    )


def run(args: argparse.Namespace) -> int | None:
    """Write the attributions, whole or not at all."""
    import sys

    from genomics.attribution_files import StrandReport, attribution_format, write_attributions
    from genomics.attribution_run import AttributionConfig, describe_target, explain, resolve_target
    from genomics.inference import load_model
    from seqmamba.finished import require_new
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    output = args.output.expanduser()
    kind = attribution_format(output)  # before the work
    drawn = () if args.plot is None else args.plot.glob("*.svg")
    require_new(output, args.strand_report, *drawn, overwrite=args.overwrite)
    check_places(args)
    config = AttributionConfig(
        method=args.method,
        target=args.target,
        both_strands=args.both_strands,
        central=args.central,
        steps=args.steps,
        batch_bases=args.batch_bases,
    )
    model = load_model(args.model, args.device)
    target = resolve_target(model, args.target)
    what = describe_target(model, target)
    limit = model.config.max_length
    items, lengths = _inputs(args, limit, sort=kind not in ("npz", "tsv"))
    report = StrandReport(what)
    results = report.watch(explain(model, items, config))
    if args.plot:
        results = _drawn(results, args.plot, args.plots, what)
    facts = {"method": args.method, "target": model.config.classes[target], "both_strands": args.both_strands}
    write_attributions(results, output, lengths=lengths, facts=facts)
    print(report.text(), file=sys.stderr)
    if args.strand_report:
        report.write(args.strand_report)
    print(f"{output}: {len(report.differences):,} sequences, {what}", file=sys.stderr)
    return 0


def _inputs(
    args: argparse.Namespace, limit: int | None, *, sort: bool
) -> tuple[Iterator[Item], dict[str, int]]:
    """Return the sequences, for tracks in the order that those need, and the lengths of chromosomes."""
    from genomics.attribution_run import explained_part
    from genomics.fasta import Fasta

    if not sort:
        return read_items(args), {}
    genome = Fasta(args.genome or args.fasta)
    items = read_items(args, genome)

    def place(item: Item) -> tuple[bytes, int]:
        where = item.interval
        start, _, first, last = explained_part(len(where), limit, args.central)
        # The bases that are scored begin elsewhere when the strand is read from its other end.
        left = len(where) - (start + last) if where.strand == "-" else start + first
        return where.chrom.encode(), where.start + left

    return iter(sorted(items, key=place)), {name: genome.length(name) for name in genome.names}


def _drawn(results: Iterator[Explained], folder: Path, count: int, what: str) -> Iterator[Explained]:
    """Draw the first sequences as they pass."""
    from genomics.attribution_plots import draw

    for number, one in enumerate(results):
        if number < count:
            draw(one, folder, what)
        yield one
