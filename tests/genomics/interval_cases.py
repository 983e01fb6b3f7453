"""Small interval data sets with the defects of published ones, in the layout of Genomic Benchmarks."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Row = tuple[str, int, int, str]
Parts = Mapping[str, Mapping[str, Sequence[Row]]]


def write_parts(folder: Path, parts: Parts) -> Path:
    for part, classes in parts.items():
        (folder / part).mkdir(parents=True)
        for name, rows in classes.items():
            lines = ["id,region,start,end,strand"]
            lines += [f"{i},{row[0]},{row[1]},{row[2]},{row[3]}" for i, row in enumerate(rows)]
            (folder / part / f"{name}.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def scattered(
    rng: np.random.Generator, n: int, length: int = 100, *, strand: str = "+", first: int = 0
) -> list[Row]:
    """Intervals that do not overlap, evenly spread over eight chromosomes, from slot ``first``."""
    places = first + rng.permutation(n)
    return [
        (f"chr{1 + slot % 8}", int(slot) // 8 * 2000, int(slot) // 8 * 2000 + length, strand)
        for slot in places
    ]


def split_rows(rows: Sequence[Row], share: float = 0.75) -> tuple[list[Row], list[Row]]:
    cut = int(share * len(rows))
    return list(rows[:cut]), list(rows[cut:])


def sound(rng: np.random.Generator) -> Parts:
    positives = split_rows(scattered(rng, 400))
    negatives = split_rows(scattered(rng, 400, first=400))
    return {
        "train": {"negative": negatives[0], "positive": positives[0]},
        "test": {"negative": negatives[1], "positive": positives[1]},
    }


def told_by_length(rng: np.random.Generator) -> Parts:
    """Classes differ in length, as in human_ensembl_regulatory."""
    parts: dict[str, dict[str, list[Row]]] = {"train": {}, "test": {}}
    for number, name in enumerate(("enhancer", "ocr", "promoter")):
        rows = scattered(rng, 300, first=300 * number)
        typical = 200 + 200 * number
        lengths = np.where(rng.random(300) < 0.9, typical, rng.integers(150, 700, 300))
        rows = [
            (chrom, start, start + int(n), "") for (chrom, start, _, _), n in zip(rows, lengths, strict=True)
        ]
        parts["train"][name], parts["test"][name] = split_rows(rows)
    return parts


def repeated_positives(rng: np.random.Generator) -> Parts:
    """Three of four test positives are training positives, too, as in human_enhancers_ensembl."""
    negatives = split_rows(scattered(rng, 400, first=400))
    train, test = split_rows(scattered(rng, 400))
    test[:75] = train[:75]
    return {
        "train": {"negative": negatives[0], "positive": train},
        "test": {"negative": negatives[1], "positive": test},
    }


def overlapping_negatives(rng: np.random.Generator) -> Parts:
    """Test negatives lie a few bases beside training negatives, as in human_nontata_promoters."""
    positives = split_rows(scattered(rng, 400))
    train = scattered(rng, 300, first=400)
    test = [(chrom, start + 7, end + 7, "-") for chrom, start, end, _ in train[:99]]
    test += scattered(rng, 1, first=900)
    return {
        "train": {"negative": train, "positive": positives[0]},
        "test": {"negative": test, "positive": positives[1]},
    }
