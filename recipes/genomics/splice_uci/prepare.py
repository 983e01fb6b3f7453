"""Prepare splice_uci: the splice junctions of the UCI repository, from the R package mlbench.

The package has StatLog's version: 3,186 of the 3,190 sequences, without their names and their order of old,
each base as three indicators.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from recipes.genomics.writing import write_fasta
from recipes.prepared import Preparation, prepare_set
from recipes.sources import DebSource
from seqmamba.errors import UserError

CLASSES = {"ei": "donor", "ie": "acceptor", "n": "neither"}
"""The labels of the package and ours: exon to intron is a donor site, intron to exon an acceptor site."""

LENGTH = 60
_LETTERS = np.array(list("TGCA"))
"""By the number of zeros behind the indicator that is set: A is 100, C is 010, G is 001 and T is 000."""


def build(unpacked: Path, folder: Path) -> dict[str, Any]:
    """Write ``donor.fa``, ``acceptor.fa`` and ``neither.fa``; returns how many sequences each has.

    Raises:
        UserError: Without the package that reads R's files, or if the file holds something else.
    """
    labels, indicators = read_table(unpacked / "DNA.rda")
    letters = decode_indicators(indicators)
    counts = {}
    for theirs, ours in CLASSES.items():
        rows = np.flatnonzero(labels == theirs)
        records = ((f"row{row + 1}", letters[row]) for row in rows.tolist())
        counts[f"{ours}.fa"] = write_fasta(folder / f"{ours}.fa", records)
    return {"records": counts}


def read_table(path: Path) -> tuple[np.ndarray, Int[np.ndarray, "n indicators"]]:
    """Read the data frame ``DNA`` of an R file.

    Args:
        path: The .rda file.

    Returns:
        The labels, str (n,), and the indicators, 0 or 1.

    Raises:
        UserError: Without the package that reads R's files, or if the file holds something else.
    """
    try:
        import rdata
    except ImportError:
        raise UserError(
            "splice_uci: reading R's files needs the package rdata", hint="pip install 'seqmamba[rdata]'"
        ) from None
    frame = rdata.read_rda(path, default_encoding="ASCII")["DNA"]
    indicators = frame.drop(columns="Class").to_numpy().astype(np.int64)
    if indicators.shape[1] != 3 * LENGTH or set(frame["Class"]) != set(CLASSES):
        raise UserError(
            f"{path}: expected {3 * LENGTH} indicators and the classes {', '.join(CLASSES)}, got "
            f"{indicators.shape[1]} and {', '.join(sorted(set(frame['Class'])))}"
        )
    return frame["Class"].to_numpy().astype(str), indicators


def decode_indicators(indicators: Int[np.ndarray, "n indicators"]) -> list[str]:
    """Turn three indicators a base into letters."""
    triples = indicators.reshape(len(indicators), -1, 3)
    return ["".join(row) for row in _LETTERS[triples @ np.array([3, 2, 1])]]


PREPARATION = Preparation(
    name="splice_uci",
    version=1,
    source=DebSource(
        package="r-cran-mlbench",
        version="2.1-3-1",
        filename="r-cran-mlbench_2.1-3-1_amd64.deb",
        sha256="2f1127f7b5e7d08703b13b52ef1976a0c355a7660d6ac575e29b87b13921bc06",
    ),
    members=("usr/lib/R/site-library/mlbench/data/DNA.rda",),
    build=build,
)

prepare = partial(prepare_set, PREPARATION)
