"""``seqmamba genomics track RUN --genome G.fa -o OUT.bw``: a model's values along a whole genome."""

from __future__ import annotations

import argparse

from genomics.cli.arguments import add_computing
from seqmamba.cli.arguments import add_again, add_model, add_output

HELP = "predict along a whole genome, to bigWig, bedGraph or BED"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("--genome", required=True, metavar="FASTA", help="plain, gzip or bgzip FASTA")
    add_output(
        parser, "OUT", "file to write: .bw, .bedGraph[.gz], .bed[.gz] or .narrowPeak[.gz]; one a target"
    )
    _add_windows(parser)
    _add_values(parser)
    add_computing(parser)
    add_again(parser)


def _add_windows(parser: argparse.ArgumentParser) -> None:
    """Add what says how the genome is cut."""
    parser.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="bases that the model reads at once (default: the longest sequence of its training, else their "
        "median; without any, 8192, or for causal language models all in front)",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="bases that windows share, for values of every base or bin (default: a quarter of the window)",
    )
    parser.add_argument(
        "--step",
        type=int,
        metavar="N",
        help="bases from one window to the next, for one value a window (default: a quarter of the window)",
    )
    parser.add_argument(
        "--max-n",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="leave out windows with a larger share of N (default: %(default)s)",
    )


def _add_values(parser: argparse.ArgumentParser) -> None:
    """Add what says which values are made and written."""
    parser.add_argument("--bin", type=int, metavar="N", help="average the values over bins of N bases")
    parser.add_argument(
        "--target",
        action="append",
        metavar="NAME",
        help="value to write (repeatable; default: all, but of language models log_likelihood alone)",
    )
    parser.add_argument("--chroms", nargs="+", metavar="NAME", help="chromosomes to read (default: all)")
    parser.add_argument("--regions", metavar="BED", help="write the values of these intervals only")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="least value of a call in BED (default: 0.5 for probabilities)",
    )
    parser.add_argument(
        "--mask-every",
        type=int,
        default=8,
        metavar="K",
        help="masked models: hide every K-th base, in K passes; 0 hides none (default: %(default)s)",
    )
    parser.add_argument("--both-strands", action="store_true", help="average the readings of both strands")


def run(args: argparse.Namespace) -> int | None:
    """Write the track."""
    import sys

    from genomics.fasta import Fasta
    from genomics.inference import usual_length
    from genomics.track_files import track_format
    from genomics.track_outputs import write_track
    from genomics.track_regions import Regions
    from genomics.tracks import Track, TrackConfig
    from seqmamba.training.exported import load_any_model
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    track_format(args.output)  # before the work, and before the model is loaded
    genome = Fasta(args.genome)
    regions = Regions(genome, args.chroms, args.regions)
    model = load_any_model(args.model, args.device)
    config = TrackConfig(
        window=usual_length(args.model, model) if args.window is None else args.window,
        overlap=args.overlap,
        step=args.step,
        max_n=args.max_n,
        mask_every=args.mask_every,
        both_strands=args.both_strands,
        batch_bases=args.batch_bases,
    )
    track = Track(model, genome, regions, config, bin_size=args.bin, targets=args.target)
    files = write_track(
        track, args.output, threshold=args.threshold, resume=args.resume, overwrite=args.overwrite
    )
    print("\n".join(map(str, files)), file=sys.stderr)
    return 0
