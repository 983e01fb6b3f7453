"""Prepare cpg_islands: the first 70 Mb of the human X chromosome, and the CpG islands that lie there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from genomics.intervals import read_bed
from recipes.genomics.blocks import write_blocks
from recipes.genomics.human import MEMBER, SOURCE, read_chromosome_x
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set
from recipes.sources import WheelSource

CHROM = "chrX"
ISLANDS = WheelSource(
    package="pyranges",
    version="0.1.7",
    filename="pyranges-0.1.7-py3-none-any.whl",
    sha256="0421a1ac596e5315cbc9e5ab8573f3408e5f65c89edb2b864bebe4afcde489e4",
)
ISLANDS_MEMBER = "pyranges/example_data/cpg.bed"


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the sequence, the islands that lie inside it and the split.

    Returns:
        Bases of each part, and the number of islands.
    """
    letters = read_chromosome_x(unpacked)
    write_fasta(folder / "human.fa", [(CHROM, letters)])
    count = 0
    with (folder / "islands.bed").open("w", encoding="ascii", newline="\n") as out:
        for row in read_bed(unpacked / Path(ISLANDS_MEMBER).name):
            place = row.interval
            if place.chrom == CHROM and place.end <= len(letters):
                out.write(f"{CHROM}\t{place.start}\t{place.end}\n")
                count += 1
    return {"bases": write_blocks(folder / "split.bed", CHROM, len(letters)), "islands": count}


PREPARATION = Preparation(
    name="cpg_islands",
    version=1,
    source=SOURCE,
    members=(MEMBER,),
    build=build,
    further=((ISLANDS, (ISLANDS_MEMBER,)),),
)

prepare = partial(prepare_set, PREPARATION)
"""Make the data set unless it is there; see `prepare_set`."""
