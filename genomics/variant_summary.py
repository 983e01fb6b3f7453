"""Counts of what became of the variants of a file, and the sentences that report them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genomics.variant_results import Results
from genomics.variants import Reason, Variant

_SHOWN = 3  # examples in a sentence


@dataclass
class Summary:
    """What became of the rows so far.

    Attributes:
        rows: Rows.
        alleles: Alternative alleles.
        mismatches: Rows whose REF is not the genome's.
        first_mismatches: Line numbers of the first of them.
        reasons: How many alleles (or rows without one) have no scores, by reason.
        unknown: Names of the first contigs that the genome lacks.
    """

    rows: int = 0
    alleles: int = 0
    mismatches: int = 0
    first_mismatches: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)

    def add(self, variant: Variant, results: Results) -> None:
        """Count a row."""
        self.rows += 1
        self.alleles += len(variant.alts)
        self.reasons.update(str(reason) for reason in results.reasons if reason)
        if results.mismatch:
            self.mismatches += 1
            if len(self.first_mismatches) < _SHOWN:
                self.first_mismatches.append(variant.line)
        missing = Reason.UNKNOWN_CONTIG in results.reasons and variant.chrom not in self.unknown
        if missing and len(self.unknown) < _SHOWN:
            self.unknown.append(variant.chrom)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return vars(self) | {"reasons": dict(self.reasons)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Summary:
        """Read what `as_dict` returned; nothing stands for zeros."""
        summary = cls(**content)
        summary.reasons = Counter(summary.reasons)
        return summary

    @property
    def scored(self) -> int:
        """Alleles with scores."""
        return self.alleles - sum(self.reasons.values()) + self.reasons[Reason.NO_ALT]

    def lines(self, source: Path, genome: Path) -> Iterator[str]:
        """Yield what a user should know.

        Args:
            source: The file of variants.
            genome: The genome.
        """
        yield f"scored {self.scored:,} of {self.alleles:,} alleles in {self.rows:,} rows"
        if self.mismatches:
            lines = ", ".join(map(str, self.first_mismatches))
            share = f"{self.mismatches:,} of {self.rows:,} rows ({self.mismatches / self.rows:.1%})"
            yield f"REF differs from {genome} in {share}, first at {source}:{lines}; is it the right build?"
        if self.unknown:
            yield f"{genome} has no sequence {', '.join(map(repr, self.unknown))}, for example"
        if self.reasons:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
            yield f"without scores: {counts}"
