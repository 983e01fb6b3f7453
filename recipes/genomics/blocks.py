"""Splits of genomes that are a single chromosome: by block."""

from __future__ import annotations

from pathlib import Path

BLOCK = 100_000
_PERIOD = 10
_HELD_OUT = {8: "valid", 9: "test"}


def write_blocks(path: Path, name: str, length: int) -> dict[str, int]:
    """Write a BED file (0-based, half-open) that deals a chromosome out in blocks of 100 kb.

    Of every ten blocks the ninth is for validation and the tenth for the test.

    Args:
        path: The file.
        name: Name of the chromosome.
        length: Its bases.

    Returns:
        Bases of each part.
    """
    bases: dict[str, int] = {}
    with path.open("w", encoding="ascii", newline="\n") as out:
        for number, start in enumerate(range(0, length, BLOCK)):
            end = min(start + BLOCK, length)
            part = _HELD_OUT.get(number % _PERIOD, "train")
            bases[part] = bases.get(part, 0) + end - start
            out.write(f"{name}\t{start}\t{end}\t{part}\n")
    return bases


def read_part(path: Path, part: str) -> list[tuple[int, int]]:
    """Read the stretches of one part from what `write_blocks` wrote, 0-based and half-open."""
    rows = (line.split("\t") for line in path.read_text(encoding="ascii").splitlines())
    return [(int(start), int(end)) for _, start, end, found in rows if found == part]
