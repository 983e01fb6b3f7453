"""Coding sequences and transcripts as a whole, put together from the features of a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from genomics.features import Feature
from genomics.gene_labels import CODON


class Part(NamedTuple):
    """One stretch of a coding sequence: its place, and its bases in front of the first whole codon."""

    start: int
    end: int
    phase: int


@dataclass(frozen=True)
class CodingRegion:
    """A coding sequence.

    Attributes:
        feature: Its feature, or the first of several.
        parts: Its stretches in the order of reading, 5' to 3'.
    """

    feature: Feature
    parts: tuple[Part, ...]

    @property
    def bases(self) -> int:
        """How long it is, introns left out."""
        return sum(part.end - part.start for part in self.parts)

    @property
    def in_frame(self) -> bool:
        """Whether it is a whole number of codons."""
        return self.bases % CODON == 0 and self.parts[0].phase == 0


def coding_regions(features: Iterable[Feature]) -> Iterator[CodingRegion]:
    """Put the coding sequences together.

    A GenBank feature is whole and gives its parts' phases by their lengths. GFF3 has a line a part, held
    together by their ID, or their parent where they have none; each has a phase of its own, which frameshifts
    do not disturb. Where a line has none, it follows from the lengths.

    Args:
        features: Features of one sequence.

    Yields:
        The coding sequences, by their first feature.
    """
    groups: dict[object, list[Feature]] = {}
    for number, feature in enumerate(features):
        if feature.kind == "CDS":
            groups.setdefault(_family(feature) or number, []).append(feature)
    for group in groups.values():
        ordered = sorted(group, key=lambda feature: feature.start, reverse=group[0].strand == "-")
        mixed = len({feature.strand for feature in group}) > 1
        for members in [[feature] for feature in ordered] if mixed else [ordered]:
            yield CodingRegion(members[0], tuple(_parts(members)))


def transcripts(
    features: Iterable[Feature], regions: Iterable[CodingRegion]
) -> Iterator[tuple[str, tuple[Part, ...], int]]:
    """Put the exons of transcripts together; coding sequences stand for those without exons.

    Args:
        features: Features of one sequence.
        regions: Its coding sequences.

    Yields:
        Strand, exons in the order of reading, and bases of exons.
    """
    exons: dict[str, list[Feature]] = {}
    for feature in features:
        if feature.kind == "mRNA" and "ID" not in feature.qualifiers and feature.strand != ".":  # GenBank's
            yield _transcript([feature])
        elif feature.kind == "exon" and feature.strand != ".":
            for parent in feature.qualifiers.get("Parent", "").split(";"):
                if parent:
                    exons.setdefault(parent, []).append(feature)
    for group in exons.values():
        if len({feature.strand for feature in group}) == 1:
            yield _transcript(group)
    for region in regions:
        parents = region.feature.qualifiers.get("Parent", "").split(";")
        if region.feature.strand != "." and not any(parent in exons for parent in parents):
            yield region.feature.strand, region.parts, region.bases


def _transcript(group: list[Feature]) -> tuple[str, tuple[Part, ...], int]:
    strand = group[0].strand
    ordered = sorted(group, key=lambda feature: feature.start, reverse=strand == "-")
    parts = tuple(Part(start, end, 0) for feature in ordered for start, end in feature.in_order)
    return strand, parts, sum(part.end - part.start for part in parts)


def _family(feature: Feature) -> tuple[str, str] | None:
    """What the lines of one coding sequence have in common; None for a GenBank feature."""
    for key in ("ID", "Parent"):
        if key in feature.qualifiers:
            return key, feature.qualifiers[key]
    return None


def _parts(members: list[Feature]) -> Iterator[Part]:
    phase = 0
    for feature in members:
        phase = phase if feature.phase is None else feature.phase
        for start, end in feature.in_order:
            yield Part(start, end, phase)
            phase = (phase - (end - start)) % CODON
