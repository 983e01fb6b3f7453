"""Prepare species: windows of 1,000 bases from each of seven prokaryotes, on a grid that blocks fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genomics.alphabet import N, decode
from genomics.similarity import similarity_clusters
from genomics.splits import SplitConfig
from recipes.genomics.genomes import GENOMES, SOURCE, members
from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set

WIDTH = 1_000
WINDOWS = 1_500
"""Windows of each genome; the smallest genome has 1,661."""

SEED = 0


def prepare(cache: Path, source: Path | None = None) -> Path:
    """Make the data set unless it is there.

    Args:
        cache: The data folder.
        source: A copy of the Debian package already on disk.

    Returns:
        The folder with one FASTA file per species and ``manifest.json``.
    """
    return prepare_set(PREPARATION, cache, source)


def build(unpacked: Path, folder: Path, windows: int = WINDOWS) -> dict[str, Any]:
    """Write one FASTA file per genome; returns how many windows each got.

    Windows start at multiples of their width, so that they neither overlap nor cross the border of a 100-kb
    block. Those with an unknown base are left out, and those that look like another one of the genome
    (ribosomal operons, mobile elements), which would leak from block to block. The rest is drawn from,
    without replacement.
    """
    generator = np.random.default_rng(SEED)
    counts: dict[str, int] = {}
    for name, genome in GENOMES.items():
        sequence = genome.read(unpacked)
        grid = np.arange(0, len(sequence.tokens) - WIDTH + 1, WIDTH)
        cut = [sequence.tokens[start : start + WIDTH] for start in grid]
        clusters = similarity_clusters(cut, SplitConfig().similarity)
        alone = np.bincount(clusters)[clusters] == 1
        known = np.array([not (tokens == N).any() for tokens in cut])
        usable = np.flatnonzero(alone & known)
        chosen = np.sort(generator.choice(usable, min(windows, len(usable)), replace=False)).tolist()
        records = ((f"{sequence.name}:{grid[i]}-{grid[i] + WIDTH}", decode(cut[i])) for i in chosen)
        counts[name] = write_fasta(folder / f"{name}.fa", records)
    return {"windows": counts}


PREPARATION = Preparation(
    name="species",
    version=1,
    source=SOURCE,
    members=members(GENOMES),
    build=build,
)
