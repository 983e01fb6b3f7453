"""Which stretches of chromosomes train, validate and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genomics.datasets.records import PART_NAMES
from genomics.intervals import match_chrom, read_bed
from genomics.tiling import Span
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS


@dataclass(frozen=True)
class RegionSplit:
    """How chromosomes are divided. No window leaves its region.

    Args:
        test_bases: The last so many bases of every sequence are its test region.
        validation_bases: So many in front of them are its validation region. Sequences less than twice as
            long as both together train as a whole.
        bed: A BED file with the part in column 4 (train, validation or valid, test) instead.

    Raises:
        UserError: If a number is not positive.
    """

    test_bases: int = 1_048_576
    validation_bases: int = 262_144
    bed: str | None = None

    def __post_init__(self) -> None:
        for name in ("test_bases", "validation_bases"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected a positive number of bases, got {getattr(self, name)}")

    def regions(self, lengths: Mapping[str, int]) -> dict[str, list[Span]]:
        """Return the regions of every part.

        Args:
            lengths: Name and bases of every sequence.

        Raises:
            UserError: If a BED row is no region of these sequences, or regions of two parts overlap.
        """
        found: dict[str, list[Span]] = {part: [] for part in PARTS}
        if self.bed is not None:
            self._from_bed(self.bed, lengths, found)
            return found
        held_out = self.test_bases + self.validation_bases
        for name, length in lengths.items():
            if length < 2 * held_out:
                found["train"].append(Span(name, 0, length))
                continue
            validation, test = length - held_out, length - self.test_bases
            found["train"].append(Span(name, 0, validation))
            found["validation"].append(Span(name, validation, test))
            found["test"].append(Span(name, test, length))
        return found

    @staticmethod
    def _from_bed(bed: str, lengths: Mapping[str, int], found: dict[str, list[Span]]) -> None:
        for row in read_bed(bed):
            where, interval = f"{bed}:{row.line}", row.interval
            part = PART_NAMES.get((row.name or "").lower())
            if part is None:
                raise UserError(f"{where}: column 4 must be train, validation or test, got {row.name!r}")
            name = match_chrom(interval.chrom, lengths)
            if name is None:
                raise UserError(f"{where}: no sequence is called {interval.chrom!r}")
            if interval.end > lengths[name]:
                raise UserError(f"{where}: {interval.chrom} has {lengths[name]} bases, got {interval.end}")
            found[part].append(Span(name, interval.start, interval.end))
        _check_apart([(span, part) for part, spans in found.items() for span in spans], bed)


def _check_apart(regions: Sequence[tuple[Span, str]], bed: str) -> None:
    """Refuse bases of two parts, and bases that would be judged twice."""
    last: dict[str, tuple[int, str]] = {}  # the farthest end so far, and the part that reaches it
    for span, part in sorted(regions):
        end, other = last.get(span.chrom, (0, part))
        if span.start < end and (part, other) != ("train", "train"):
            place = f"{span.chrom}:{span.start}-{min(span.end, end)}"
            raise UserError(f"{bed}: {place} is in two regions, for {other} and for {part}")
        last[span.chrom] = max((end, other), (span.end, part))
