"""Arguments that several genomics verbs take: one spelling and one help text each.

Those that are not about DNA are in `seqmamba.cli.arguments`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seqmamba.cli.arguments import add_device
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from genomics.embedding_inputs import Item
    from genomics.fasta import Fasta

BATCH_BASES = 65_536


def add_computing(
    parser: argparse.ArgumentParser,
    *,
    batch_bases: int | None = BATCH_BASES,
    text: str = "bases in a batch (default: %(default)s)",
) -> None:
    """Add where to compute, and how much at once.

    Args:
        parser: The verb's parser.
        batch_bases: Default number of bases in a batch.
        text: Help on it.
    """
    parser.add_argument("--batch-bases", type=int, default=batch_bases, metavar="N", help=text)
    add_device(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add which output of a model is explained."""
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="class or target to explain, by name or number (default: the second of two classes)",
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add intervals of a genome; `check_places` and `read_items` go with it."""
    parser.add_argument(
        "--bed", metavar="BED", help="intervals of --genome in place of FASTA; strands are honoured"
    )
    parser.add_argument("--genome", metavar="FASTA", help="genome that --bed lies on")


def check_places(args: argparse.Namespace) -> None:
    """Make sure that there is either FASTA or intervals with their genome.

    Args:
        args: Parsed options of `add_places`, and ``fasta``.

    Raises:
        UserError: If not.
    """
    if bool(args.fasta) == bool(args.bed):
        raise UserError("expected a FASTA file or --bed, one of the two")
    if bool(args.bed) != bool(args.genome):
        raise UserError("--bed and --genome go together")


def read_items(args: argparse.Namespace, genome: Fasta | None = None) -> Iterator[Item]:
    """Return the sequences of a FASTA file or of intervals.

    Args:
        args: Parsed options of `add_places`, and ``fasta``.
        genome: What to read the intervals from, if it is open already.
    """
    from genomics.embedding_inputs import from_fasta, from_genome
    from genomics.fasta import Fasta

    if args.fasta and genome is None:
        return from_fasta(args.fasta)
    return from_genome(genome or Fasta(args.genome), args.bed)
