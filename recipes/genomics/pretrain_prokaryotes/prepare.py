"""Prepare pretrain_prokaryotes: six of the annotated genomes of cct-examples, without their annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genomics.alphabet import decode
from recipes.genomics.blocks import write_blocks
from recipes.genomics.genomes import GENOMES, SOURCE, members
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set

HELD_OUT = "bradyrhizobium_japonicum"
"""For tasks on a genome that the pretraining never saw."""

NAMES = tuple(name for name in GENOMES if name != HELD_OUT)


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the Debian package already on disk.

    Returns:
        The folder with a FASTA file and a BED file of blocks for each genome, and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write the genomes and their blocks; returns how many bases each part of each has."""
    bases = {}
    for name in NAMES:
        tokens = GENOMES[name].read(unpacked).tokens
        write_fasta(folder / f"{name}.fa", [("chromosome", decode(tokens))])
        bases[name] = write_blocks(folder / f"{name}.bed", "chromosome", len(tokens))
    return {"bases": bases}


PREPARATION = Preparation(
    name="pretrain_prokaryotes", version=1, source=SOURCE, members=members(NAMES), build=build
)
