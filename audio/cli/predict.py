"""``seqmamba audio predict RUN FILE... -o OUT.tsv``: apply a trained classifier to any recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "predict the classes or values of recordings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("model", metavar="RUN", help="run folder, model folder or owner/name on the hub")
    parser.add_argument("sources", nargs="+", metavar="FILE", help="recordings, or folders of them")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="TSV", help="table to write")
    parser.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help="what to do about a file that cannot be read (default: %(default)s, and list it)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted table")
    parser.add_argument("--overwrite", action="store_true", help="replace the table that is there")
    parser.add_argument(
        "--crops",
        type=int,
        default=10,
        metavar="N",
        help="stretches of a recording, where training cut recordings (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="recordings at once (default: %(default)s)"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda or cuda:N (default: a GPU if there is one)")


def run(args: argparse.Namespace) -> int | None:
    """Write the predictions."""
    from audio.inference import load_model
    from audio.predictions import PredictConfig, find_files, predict_files
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    config = PredictConfig(args.crops, args.batch_size, args.on_error, args.resume, args.overwrite)
    files = find_files(args.sources)
    predict_files(load_model(args.model, args.device), files, args.output, config)
    return 0
