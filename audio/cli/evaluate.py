"""``seqmamba audio evaluate RUN FOLDER``: metrics of a trained classifier on labelled recordings."""

from __future__ import annotations

import argparse

from audio.cli.arguments import add_crops, add_pattern
from seqmamba.cli.arguments import add_again, add_batch_size, add_device, add_model, add_output

HELP = "test a classifier on labelled recordings, also at other sampling rates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("source", metavar="FOLDER", help="folder of class folders, or a table")
    add_output(parser, "JSON", "file for the metrics, too", required=False)
    add_pattern(parser)
    parser.add_argument(
        "--rates", nargs="+", type=int, default=[], metavar="HZ", help="other sampling rates to test at, too"
    )
    add_crops(parser, default=10)
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: %(default)s)"
    )
    add_batch_size(parser, "recordings", 16)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the resamples (default: 1)")
    add_device(parser)
    add_again(parser, resumes=False)


def run(args: argparse.Namespace) -> int | None:
    """Print the metrics, and write them if asked."""
    from audio.evaluation import evaluate_source
    from audio.inference import load_model
    from audio.manifests import SourceConfig
    from seqmamba.finished import require_new
    from seqmamba.training.hardware import limit_threads

    output = None if args.output is None else args.output.expanduser()
    if output is not None:
        require_new(output, overwrite=args.overwrite)
    limit_threads()
    evaluate_source(
        load_model(args.model, args.device),
        args.source,
        SourceConfig(pattern=args.pattern),
        rates=args.rates,
        crops=args.crops,
        bootstrap=args.bootstrap,
        batch_size=args.batch_size,
        seed=args.seed,
        output=output,
    )
    return 0
