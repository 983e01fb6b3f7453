"""``seqmamba genomics motifs RUN --motifs M.meme --fasta X.fa -o OUT.tsv``: what motifs do to a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from genomics.cli.arguments import add_places, add_target, check_places, read_items
from seqmamba.cli.arguments import add_again, add_device, add_model, add_output
from seqmamba.errors import UserError

HELP = "put the motifs of a MEME or JASPAR file into sequences, or shuffle them away, and see what it changes"

_FIGURES = (".svg", ".png", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser, hub=False)
    parser.add_argument(
        "--motifs", required=True, metavar="FILE", help="motifs in MEME's or JASPAR's format, plain or gzip"
    )
    parser.add_argument("--fasta", metavar="FASTA", help="sequences, plain or gzip")
    add_places(parser)
    add_output(parser, "TSV", "table to write: a row an experiment")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the largest changes, as .svg, .png or .pdf"
    )
    parser.add_argument(
        "--experiment",
        default="insert",
        choices=("insert", "ablate"),
        help="insert puts each motif, and its reverse complement, into the middle of shuffled sequences; "
        "ablate shuffles the best occurrence in each sequence, and another stretch for comparison "
        "(default: %(default)s)",
    )
    add_target(parser)
    parser.add_argument(
        "--length",
        type=int,
        metavar="N",
        help="bases around the centre of each sequence (default: those of the first one, at most those of "
        "training)",
    )
    parser.add_argument(
        "--sequences", type=int, default=200, metavar="N", help="use the first N (default: %(default)s)"
    )
    parser.add_argument(
        "--as-they-are", action="store_true", help="insert: do not shuffle the sequences first"
    )
    parser.add_argument(
        "--p-value",
        type=float,
        default=1e-4,
        metavar="P",
        help="ablate: of an occurrence (default: %(default)s)",
    )
    parser.add_argument(
        "--shuffles", type=int, default=20, metavar="N", help="ablate: of each stretch (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(default: %(default)s)")
    add_device(parser)
    add_again(parser, resumes=False)


def run(args: argparse.Namespace) -> int | None:
    """Write the table and the figure."""
    import sys

    from genomics.attribution_run import describe_target, resolve_target
    from genomics.inference import load_model
    from genomics.motif_files import read_motifs
    from genomics.motif_run import MotifConfig, choose_sequences, draw_rows, run_motifs, write_rows
    from seqmamba.finished import require_new
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    if args.plot is not None and args.plot.suffix.lower() not in _FIGURES:
        raise UserError(f"--plot {args.plot}: expected a name that ends in {', '.join(_FIGURES)}")
    if args.length is not None and args.length < 1:
        raise UserError(f"--length: expected a positive number of bases, got {args.length}")
    config = MotifConfig(
        experiment=args.experiment,
        shuffle=not args.as_they_are,
        p_value=args.p_value,
        shuffles=args.shuffles,
        sequences=args.sequences,
        seed=args.seed,
    )
    output = args.output.expanduser()
    require_new(output, args.plot, overwrite=args.overwrite)
    check_places(args)
    motifs = read_motifs(args.motifs)
    model = load_model(args.model, args.device)
    target = resolve_target(model, args.target)
    chosen = choose_sequences(read_items(args), args.length, args.sequences, limit=model.config.max_length)
    tokens = chosen.tokens.to(model.token_weights.device)
    rows = run_motifs(model, tokens, motifs, target, config)
    write_rows(rows, output)
    what = describe_target(model, target)
    if args.plot is not None:
        draw_rows(rows, args.plot, what)
    left_out = f", {chosen.short:,} shorter and {chosen.unknown:,} with unknown bases left out"
    print(
        f"{output}: {len(motifs):,} motifs, change of the {what} over {len(tokens):,} sequences of "
        f"{tokens.shape[1]:,} bases{left_out if chosen.short or chosen.unknown else ''}",
        file=sys.stderr,
    )
    return 0
