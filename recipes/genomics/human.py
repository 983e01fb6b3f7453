"""The human sequence that anyone can fetch in seconds: 70 Mb of chromosome X, an example of SMALT."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from genomics.fasta import read_fasta
from recipes.sources import DebSource
from seqmamba.errors import UserError

SOURCE = DebSource(
    package="smalt-examples",
    version="0.7.6-12",
    filename="smalt-examples_0.7.6-12_all.deb",
    sha256="ffb01b7ff91cd29bd45c980cdeea90d986146dd2e907fd9e365d3a8fa75b0751",
)
MEMBER = "usr/share/doc/smalt/test/data/hs37chrXtrunc.fa.gz"
"""Bases 1 to 69,999,930 of GRCh37."""


def read_chromosome_x(unpacked: Path) -> str:
    """Return the letters of the sequence, upper and lower case as in the file.

    Args:
        unpacked: Folder that `MEMBER` was unpacked into.

    Raises:
        UserError: If the file does not hold one sequence.
    """
    path = unpacked / PurePosixPath(MEMBER).name
    records = list(read_fasta(path))
    if len(records) != 1:
        raise UserError(f"{path}: expected one sequence, got {len(records)}")
    return records[0].sequence.decode("ascii")
