"""Small genomes with repeats and gaps for tests of pretraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_genome(
    path: Path,
    chromosomes: tuple[str, ...] = ("chr1", "chr2", "chr3"),
    length: int = 2_000,
    seed: int = 0,
    gap: bool = True,
) -> Path:
    """Write chromosomes whose second quarter is in lower case and whose third begins with 150 N."""
    rng = np.random.default_rng(seed)
    with path.open("w") as out:
        for name in chromosomes:
            bases = "".join(rng.choice(list("ACGT"), size=length))
            quarter = length // 4
            repeat = bases[quarter : 2 * quarter].lower()
            unknown = "N" * 150 if gap else ""
            text = bases[:quarter] + repeat + unknown + bases[2 * quarter + len(unknown) :]
            lines = [text[start : start + 60] for start in range(0, length, 60)]
            out.write(f">{name}\n" + "\n".join(lines) + "\n")
    return path
