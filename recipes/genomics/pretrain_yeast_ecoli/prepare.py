"""Prepare pretrain_yeast_ecoli: the genomes of S. cerevisiae and E. coli K-12, examples of pybarrnap."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from genomics.fasta import read_fasta
from recipes.genomics.blocks import write_blocks
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set
from recipes.sources import WheelSource
from seqmamba.errors import UserError

FOLDER = "pybarrnap/example_data"
YEAST, ECOLI = "fungus.fna", "bacteria.fna"
_CHROMOSOME = re.compile(r"chromosome ([IVX]+)\b")


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the wheel already on disk.

    Returns:
        The folder with ``yeast.fa`` (chrI to chrXVI), ``ecoli.fa``, ``ecoli.bed`` (its blocks and their part)
        and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the genomes under short names; returns how many bases each has.

    Raises:
        UserError: If a header of the yeast does not name its chromosome, or E. coli is not one record.
    """
    yeast = []
    for record in read_fasta(unpacked / YEAST):
        found = _CHROMOSOME.search(record.header)
        if found is None:
            raise UserError(f"{YEAST}:{record.line}: {record.header!r} does not name a chromosome")
        yeast.append((f"chr{found[1]}", record.sequence.decode("ascii")))
    ecoli = [record.sequence.decode("ascii") for record in read_fasta(unpacked / ECOLI)]
    if len(ecoli) != 1:
        raise UserError(f"{ECOLI}: expected one chromosome, got {len(ecoli)}")
    write_fasta(folder / "yeast.fa", yeast)
    write_fasta(folder / "ecoli.fa", [("chromosome", ecoli[0])])
    parts = write_blocks(folder / "ecoli.bed", "chromosome", len(ecoli[0]))
    return {"bases": {"yeast": sum(len(letters) for _, letters in yeast), "ecoli": parts}}


PREPARATION = Preparation(
    name="pretrain_yeast_ecoli",
    version=1,
    source=WheelSource(
        package="pybarrnap",
        version="0.5.2",
        filename="pybarrnap-0.5.2-py3-none-any.whl",
        sha256="7826ab3562e852e9fcc8257427ee2df74fc2c55d47a6a78ef93c9610ed1305e5",
    ),
    members=tuple(f"{FOLDER}/{file}" for file in (YEAST, ECOLI)),
    build=build,
)
