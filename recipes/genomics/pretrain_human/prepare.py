"""Prepare pretrain_human: the first 70 Mb of the human X chromosome (GRCh37), an example of SMALT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.genomics.blocks import write_blocks
from recipes.genomics.human import MEMBER, SOURCE, read_chromosome_x
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set


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
    """Write the sequence and its blocks; returns how many bases each part has."""
    letters = read_chromosome_x(unpacked)
    write_fasta(folder / "human.fa", [("chrX", letters)])
    return {"bases": write_blocks(folder / "human.bed", "chrX", len(letters))}


PREPARATION = Preparation(name="pretrain_human", version=1, source=SOURCE, members=(MEMBER,), build=build)
