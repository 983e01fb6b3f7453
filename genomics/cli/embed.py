"""``seqmamba genomics embed RUN X.fa -o OUT.parquet``: hidden states as a table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from genomics.cli.arguments import add_computing
from seqmamba.cli.arguments import add_again, add_model, add_output
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genomics.embedding_inputs import Item

HELP = "write embeddings of sequences, windows or bases, to Parquet or npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("fasta", nargs="*", metavar="FASTA", help="plain or gzip FASTA, of any size")
    parser.add_argument("--genome", metavar="FASTA", help="genome whose chromosomes are read instead")
    parser.add_argument("--bed", metavar="BED", help="intervals of the genome; strands are honoured")
    add_output(parser, "OUT", "table to write: .parquet or .npz")
    parser.add_argument(
        "--level",
        default="sequence",
        choices=("sequence", "window", "base"),
        help="what one vector stands for; of a sequence longer than the window, the mean of its windows "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="bases that the model reads at once (default: the longest sequence of its training; else for "
        "--level window their median; else 65536)",
    )
    parser.add_argument(
        "--step",
        type=int,
        metavar="N",
        help="bases from one window to the next (default: the window; for bases three quarters of it)",
    )
    parser.add_argument(
        "--layer",
        type=int,
        metavar="K",
        help="residual stream behind layer K; 0: in front of the first, -1: behind the last "
        "(default: what the head sees)",
    )
    parser.add_argument("--both-strands", action="store_true", help="average the readings of both strands")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "float16"), help="(default: %(default)s)"
    )
    add_computing(parser)
    add_again(parser)


def run(args: argparse.Namespace) -> int | None:
    """Write the embeddings."""
    import sys
    from dataclasses import replace

    from genomics.embedding_files import require_format
    from genomics.embeddings import EmbeddingConfig, Embeddings
    from genomics.inference import usual_length
    from seqmamba.training.exported import load_any_model
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    require_format(args.output)  # before the work
    config = EmbeddingConfig(
        level=args.level,
        window=args.window,
        step=args.step,
        layer=args.layer,
        both_strands=args.both_strands,
        dtype=args.dtype,
        batch_bases=args.batch_bases,
    )
    items, source = _input(args)
    model = load_any_model(args.model, args.device)
    if config.window is None and config.level == "window":
        config = replace(config, window=usual_length(args.model, model))
    embeddings = Embeddings(model, config)
    rows = embeddings.write(items, args.output, source=source, resume=args.resume, overwrite=args.overwrite)
    what = "is complete already" if rows is None else f"{rows:,} rows of {embeddings.dim:,} numbers"
    print(f"{args.output}: {what}", file=sys.stderr)
    return 0


def _input(args: argparse.Namespace) -> tuple[Iterator[Item], list[Path]]:
    """Return the sequences and the files that they come from."""
    from itertools import chain

    from genomics.embedding_inputs import from_fasta, from_genome
    from genomics.fasta import Fasta
    from genomics.files import check_file

    if args.bed and not args.genome:
        raise UserError("--bed: needs --genome, the genome that its intervals are from")
    if bool(args.fasta) == bool(args.genome):
        raise UserError("expected FASTA files or --genome, one of the two")
    if args.fasta:
        source = [check_file(path) for path in args.fasta]
        return chain.from_iterable(map(from_fasta, source)), source
    genome = Fasta(args.genome)
    source = [genome.path, *([check_file(args.bed)] if args.bed else [])]
    return from_genome(genome, args.bed), source
