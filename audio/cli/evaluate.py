"""``seqmamba audio evaluate RUN FOLDER``: metrics of a trained classifier on labelled recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "test a classifier on labelled recordings, also at other sampling rates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("model", metavar="RUN", help="run folder, model folder or owner/name on the hub")
    parser.add_argument("source", metavar="FOLDER", help="folder of class folders, or a table")
    parser.add_argument("-o", "--output", type=Path, metavar="JSON", help="file for the metrics")
    parser.add_argument("--pattern", help="regular expression that finds the label in file names")
    parser.add_argument(
        "--rates", nargs="+", type=int, default=[], metavar="HZ", help="other sampling rates to test at, too"
    )
    parser.add_argument(
        "--crops",
        type=int,
        default=10,
        metavar="N",
        help="stretches of a recording, where training cut recordings (default: %(default)s)",
    )
    parser.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="recordings at once (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the resamples (default: 1)")
    parser.add_argument("--device", default=None, help="cpu, cuda or cuda:N (default: a GPU if there is one)")


def run(args: argparse.Namespace) -> int | None:
    """Print the metrics, and write them if asked."""
    from audio.evaluation import evaluate_source
    from audio.inference import load_model
    from audio.manifests import SourceConfig
    from seqmamba.training.hardware import limit_threads

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
        output=args.output,
    )
    return 0
