"""``seqmamba audio predict RUN FILE... -o OUT.tsv``: apply a trained classifier to any recordings."""

from __future__ import annotations

import argparse

from audio.cli.arguments import add_crops, add_on_error
from seqmamba.cli.arguments import add_again, add_batch_size, add_device, add_model, add_output

HELP = "predict the classes or values of recordings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("sources", nargs="+", metavar="FILE", help="recordings, or folders of them")
    add_output(parser, "TSV", "table to write")
    add_on_error(parser, default="skip")
    add_again(parser)
    add_crops(parser, default=10)
    add_batch_size(parser, "recordings", 16)
    add_device(parser)


def run(args: argparse.Namespace) -> int | None:
    """Write the predictions."""
    from audio.inference import load_model
    from audio.predictions import PredictConfig, find_files, predict_files
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    config = PredictConfig(args.crops, args.batch_size, args.on_error, args.resume, args.overwrite)
    files = find_files(args.sources)
    predict_files(load_model(args.model, args.device), files, args.output.expanduser(), config)
    return 0
