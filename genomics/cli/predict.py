"""``seqmamba genomics predict RUN X.fa -o OUT.tsv``: apply a trained model to any FASTA file."""

from __future__ import annotations

import argparse
import sys

from genomics.cli.arguments import add_computing
from seqmamba.cli.arguments import add_again, add_model, add_output

HELP = "predict the classes or values of the sequences of a FASTA file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser, hub=False)
    parser.add_argument("fasta", nargs="+", metavar="FASTA", help="plain or gzip FASTA, of any size")
    add_output(parser, "TSV", "table to write")
    text = "bases in a batch; a longer sequence is a batch of its own (default: %(default)s)"
    add_computing(parser, text=text)
    add_again(parser)


def run(args: argparse.Namespace) -> int | None:
    """Write the predictions, whole or not at all."""
    from genomics.inference import load_predictor, predict_files
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    model = load_predictor(args.model, args.device)
    output = args.output.expanduser()
    again = {"resume": args.resume, "overwrite": args.overwrite}
    try:
        count = predict_files(model, args.fasta, output, batch_bases=args.batch_bases, **again)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume goes on") from None
    what = "is complete already" if count is None else f"{count:,} sequences"
    print(f"{output}: {what}", file=sys.stderr)
    return 0
