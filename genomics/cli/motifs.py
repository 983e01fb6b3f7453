"""``seqmamba genomics motifs RUN --motifs M.meme --fasta X.fa -o OUT.tsv``: what motifs do to a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seqmamba.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genomics.embedding_inputs import Item

HELP = "put the motifs of a MEME or JASPAR file into sequences, or shuffle them away, and see what it changes"

_FIGURES = (".svg", ".png", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "model", metavar="RUN", help="run folder, or a folder with config.json and model.safetensors"
    )
    parser.add_argument(
        "--motifs", required=True, metavar="FILE", help="motifs in MEME's or JASPAR's format, plain or gzip"
    )
    parser.add_argument("--fasta", metavar="FASTA", help="sequences, plain or gzip")
    parser.add_argument("--bed", metavar="BED", help="intervals of --genome in place of --fasta")
    parser.add_argument("--genome", metavar="FASTA", help="genome that --bed lies on")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="TSV", help="table to write: a row an experiment"
    )
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
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="class or target to explain, by name or number (default: the second of two classes)",
    )
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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")


def run(args: argparse.Namespace) -> int | None:
    """Write the table and the figure."""
    import sys

    from genomics.attribution_run import resolve_target
    from genomics.inference import load_model
    from genomics.motif_files import read_motifs
    from genomics.motif_run import MotifConfig, choose_sequences, draw_rows, run_motifs, write_rows
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
    motifs = read_motifs(args.motifs)
    model = load_model(args.model, args.device)
    target = resolve_target(model, args.target)
    chosen = choose_sequences(_items(args), args.length, args.sequences, limit=model.config.max_length)
    tokens = chosen.tokens.to(model.token_weights.device)
    rows = run_motifs(model, tokens, motifs, target, config)
    write_rows(rows, args.output)
    if args.plot is not None:
        draw_rows(rows, args.plot)
    name = model.config.classes[target]
    what = f"value of {name}" if model.config.task == "regression" else f"log-odds of {name}"
    left_out = f", {chosen.short:,} shorter and {chosen.unknown:,} with unknown bases left out"
    print(
        f"{args.output}: {len(motifs):,} motifs, change of the {what} over {len(tokens):,} sequences of "
        f"{tokens.shape[1]:,} bases{left_out if chosen.short or chosen.unknown else ''}",
        file=sys.stderr,
    )
    return 0


def _items(args: argparse.Namespace) -> Iterator[Item]:
    from genomics.embedding_inputs import from_fasta, from_genome
    from genomics.fasta import Fasta

    if bool(args.fasta) == bool(args.bed):
        raise UserError("expected --fasta or --bed, one of the two")
    if bool(args.bed) != bool(args.genome):
        raise UserError("--bed and --genome go together")
    return from_fasta(args.fasta) if args.fasta else from_genome(Fasta(args.genome), args.bed)
