"""Which parts of a genome a track covers. Coordinates are 0-based and half-open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from genomics.fasta import Fasta
from genomics.intervals import read_bed
from genomics.tiling import Span
from seqmamba.errors import UserError


class Regions:
    """Chosen stretches of a genome: joined where they overlap or touch, in the order of the genome.

    Args:
        genome: The genome.
        chroms: Names of chromosomes to cover, with or without ``chr``; None means all.
        bed: A BED file whose intervals are covered; None means whole chromosomes.

    Raises:
        UserError: If a chromosome is not there, or an interval goes beyond its end.
    """

    def __init__(
        self, genome: Fasta, chroms: Sequence[str] | None = None, bed: str | Path | None = None
    ) -> None:
        self._genome = genome
        names = genome.names
        if chroms:
            chosen = {genome.resolve(name) for name in chroms}
            names = tuple(name for name in names if name in chosen)
        self.stretches: dict[str, list[tuple[int, int]]] = {
            name: [(0, genome.length(name))] for name in names
        }
        """Chromosome to its stretches, in order."""
        if bed is not None:
            self.stretches = self._read(bed)

    def _read(self, bed: str | Path) -> dict[str, list[tuple[int, int]]]:
        found: dict[str, list[tuple[int, int]]] = {name: [] for name in self.stretches}
        for row in read_bed(bed):
            interval = self._genome.place(row.interval, f"{bed}:{row.line}")
            if interval.chrom in found:
                found[interval.chrom].append((interval.start, interval.end))
        chosen = {name: join(stretches) for name, stretches in found.items() if stretches}
        if not chosen:
            raise UserError(f"{bed}: has no interval on the chosen chromosomes")
        return chosen

    def parts(self, grain: int = 1) -> list[Span]:
        """Return the stretches, widened to whole bins and joined where these touch.

        Args:
            grain: Bases of a bin.
        """
        return [
            Span(name, start, end)
            for name, stretches in self.stretches.items()
            for start, end in join(
                (start // grain * grain, min(-(-end // grain) * grain, self._genome.length(name)))
                for start, end in stretches
            )
        ]


def join(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort stretches and join those that overlap or touch.

    Args:
        stretches: Starts and ends, half-open.
    """
    joined: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1]:
            start, end = joined[-1][0], max(end, joined.pop()[1])
        joined.append((start, end))
    return joined
