"""``seqmamba genomics score-variants``: what a model makes of the variants of a VCF file or a table."""

from __future__ import annotations

import argparse
import sys

from genomics.cli.arguments import add_computing
from seqmamba.cli.arguments import add_again, add_model, add_output

HELP = "score the variants of a VCF file or table with a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("--genome", required=True, metavar="FASTA", help="genome that the variants lie on")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--vcf", metavar="VCF", help="variants: plain, gzip or bgzip VCF")
    group.add_argument(
        "--tsv", metavar="TSV", help="variants: a table with columns chrom, pos (1-based), ref and alt"
    )
    add_output(parser, "FILE", "file to write: .vcf, .vcf.gz, .tsv, .tsv.gz or .parquet")
    parser.add_argument(
        "--scores",
        nargs="+",
        choices=("llr", "embedding", "delta"),
        metavar="SCORE",
        help="llr (language models), delta (models of labels), embedding (all); default: llr or delta",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="bases around a variant (default: the longest sequence of the training, else their median, else "
        "1024)",
    )
    parser.add_argument(
        "--strands",
        choices=("both", "each", "forward"),
        default="both",
        help="average both strands, report each of them too, or read the forward strand only "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--prefix", default="SM", help="first part of the names of the new fields (default: %(default)s)"
    )
    add_computing(
        parser, batch_bases=None, text="bases in a batch (default: 16384 on a CPU, 262144 on a GPU)"
    )
    add_again(parser)


def run(args: argparse.Namespace) -> int | None:
    """Write the scores, whole or not at all, and say on stderr what was left out."""
    from genomics.fasta import Fasta
    from genomics.inference import usual_length
    from genomics.variant_run import ScoringConfig, score_variants
    from genomics.variant_tables import VariantTable
    from genomics.vcf import Vcf
    from seqmamba.training.exported import load_any_model
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    output = args.output.expanduser()
    source = Vcf(args.vcf) if args.vcf else VariantTable(args.tsv)
    genome = Fasta(args.genome)
    model = load_any_model(args.model, args.device)
    config = ScoringConfig(
        scores=None if args.scores is None else tuple(args.scores),
        window=usual_length(args.model, model) if args.window is None else args.window,
        strands=args.strands,
        batch_bases=args.batch_bases,
        prefix=args.prefix,
    )
    try:
        summary = score_variants(
            model, genome, source, output, config, resume=args.resume, overwrite=args.overwrite
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume goes on") from None
    if summary is None:
        print(f"{output}: is complete already", file=sys.stderr)
        return 0
    for line in summary.lines(source.path, genome.path):
        print(line, file=sys.stderr)
    return 0
