"""A small genome with two tracks and a split, for tests of binned tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genomics.track_files import Intervals, write_bigwig

LENGTH = 2_400


def letters(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Stretches rich and poor in GC, so that there is something to learn.
    gc = np.repeat(rng.random(LENGTH // 60), 60)
    strong = rng.random(LENGTH) < gc
    return np.where(strong, rng.choice(list("GC"), LENGTH), rng.choice(list("AT"), LENGTH))


def write_tracks(folder: Path) -> dict[str, Any]:
    """Write g.fa, gc.bw (1 for G and C, nothing on chr1:600-700), at.bed and split.bed.

    Returns:
        Arguments of the data module, as in a recipe.
    """
    bases = {"chr1": letters(1), "chr2": letters(2)}
    bases["chr1"][1000:1100] = "N"
    with (folder / "g.fa").open("w") as out:
        for name, row in bases.items():
            out.write(f">{name}\n{''.join(row)}\n")
    parts = []
    rows = []
    for name, row in bases.items():
        starts = np.arange(LENGTH)
        if name == "chr1":
            starts = np.concatenate([starts[:600], starts[700:]])
        values = np.isin(row[starts], ["G", "C"]).astype(np.float32)
        parts.append(Intervals(name, starts, starts + 1, values))
        rows += [f"{name}\t{at}\t{at + 1}\n" for at in np.flatnonzero(np.isin(row, ["A", "T"]))]
    write_bigwig(folder / "gc.bw", {"chr1": LENGTH, "chr2": LENGTH}, parts)
    (folder / "at.bed").write_text("".join(rows))
    (folder / "split.bed").write_text(
        "1\t0\t1205\tfold0\n1\t1205\t1803\tfold4\n1\t1803\t2400\tfold3\nchr2\t3\t2397\tfold1\n"
    )
    return {
        "genome": {
            "fasta": str(folder / "g.fa"),
            "split": str(folder / "split.bed"),
            "validation": ["fold4"],
            "test": ["fold3"],
        },
        "tracks": [
            {"file": str(folder / "gc.bw"), "scale": 8.0, "clip": 7.0},
            {"file": str(folder / "at.bed"), "name": "weak"},
        ],
        "windows": {"context": 64, "bin_size": 8, "bases_per_epoch": 4096, "bases_per_batch": 256},
    }
