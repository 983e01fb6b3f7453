"""Prepare pretrain_human: the first 70 Mb of the human X chromosome (GRCh37), an example of SMALT."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from genomics.fasta import read_fasta
from recipes.genomics.blocks import write_blocks
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource
from seqmamba.errors import UserError

MEMBER = "usr/share/doc/smalt/test/data/hs37chrXtrunc.fa.gz"


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the Debian package already on disk.

    Returns:
        The folder with ``human.fa`` (chrX), ``human.bed`` (its blocks and their part) and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the sequence and its blocks; returns how many bases each part has.

    Raises:
        UserError: If the file does not hold one sequence.
    """
    path = unpacked / PurePosixPath(MEMBER).name
    records = list(read_fasta(path))
    if len(records) != 1:
        raise UserError(f"{path}: expected one sequence, got {len(records)}")
    letters = records[0].sequence.decode("ascii")
    write_fasta(folder / "human.fa", [("chrX", letters)])
    return {"bases": write_blocks(folder / "human.bed", "chrX", len(letters))}


PREPARATION = Preparation(
    name="pretrain_human",
    version=1,
    source=DebSource(
        package="smalt-examples",
        version="0.7.6-12",
        filename="smalt-examples_0.7.6-12_all.deb",
        sha256="ffb01b7ff91cd29bd45c980cdeea90d986146dd2e907fd9e365d3a8fa75b0751",
    ),
    members=(MEMBER,),
    build=build,
)
