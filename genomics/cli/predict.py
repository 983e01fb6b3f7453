"""``seqmamba genomics predict RUN X.fa -o OUT.tsv``: apply a trained model to any FASTA file."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "predict the classes or values of the sequences of a FASTA file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "model", metavar="RUN", help="run folder, or a folder with config.json and model.safetensors"
    )
    parser.add_argument("fasta", nargs="+", metavar="FASTA", help="plain or gzip FASTA, of any size")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="TSV", help="table to write")
    parser.add_argument(
        "--batch-bases",
        type=int,
        default=65_536,
        metavar="N",
        help="bases in a batch; a longer sequence is a batch of its own (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")


def run(args: argparse.Namespace) -> int | None:
    """Write the predictions, whole or not at all."""
    from genomics.inference import load_predictor, predict_files
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    model = load_predictor(args.model, args.device)
    predict_files(model, args.fasta, args.output, batch_bases=args.batch_bases)
    return 0
