"""Windows over a chromosome: what a model reads, and which part of its answer is kept.

Coordinates are 0-based and half-open. A track has one row for every `unit` bases, counted from the start of
the chromosome; the last row of a chromosome may stand for fewer bases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from seqmamba.errors import UserError


class Span(NamedTuple):
    """A stretch of a chromosome: its name, its first base and one past its last."""

    chrom: str
    start: int
    end: int


class Window(NamedTuple):
    """What one call of a model reads, and the rows of the track that it fills.

    Attributes:
        start: First base that the model reads.
        end: One past the last base that it reads.
        first: First row of the track that is kept.
        last: One past the last row.
    """

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class Tiling:
    """A grid of windows that overlap in what they read, but not in what is kept of them.

    The grid starts at base 0 of every chromosome, whatever part of it is asked for: the value of a base does
    not depend on where a run began. At the ends of a chromosome a window reads what there is.

    Args:
        unit: Bases a row of the track.
        stride: Bases from one window to the next: the part that is kept. A whole number of units.
        left: Bases read in front of the kept part; negative if a window is smaller than its step.
        right: Bases read behind it.
    """

    unit: int
    stride: int
    left: int
    right: int

    @classmethod
    def centred(cls, window: int, step: int) -> Tiling:
        """Return windows of which one value each is kept, for the `step` bases at their centre.

        Args:
            window: Bases that a window reads.
            step: Bases from one window to the next.

        Raises:
            UserError: If either is not positive.
        """
        _require_positive("--window", window)
        _require_positive("--step", step)
        left = window // 2 - step // 2
        return cls(unit=step, stride=step, left=left, right=window - left - step)

    @classmethod
    def trimmed(cls, window: int, overlap: int, *, unit: int = 1, causal: bool = False) -> Tiling:
        """Return windows of which the central part is kept, or the last part for a causal model.

        Args:
            window: Bases that a window reads, context included.
            overlap: Bases that neighbours share. Half of them are trimmed from either side; all of them from
                the left for a causal model, which sees nothing on the right.
            unit: Bases a row of the track.
            causal: Whether the model sees the left only.

        Raises:
            UserError: If the numbers do not fit each other.
        """
        _require_positive("--window", window)
        sides = 1 if causal else 2
        if not 0 <= overlap < window:
            raise UserError(f"--overlap: expected 0 to {window - 1:,}, less than the window, got {overlap:,}")
        if window % unit or overlap % (sides * unit):
            raise UserError(
                f"--window and --overlap: expected multiples of {unit} and {sides * unit} bases, "
                f"got {window:,} and {overlap:,}"
            )
        left = overlap // sides
        return cls(unit=unit, stride=window - overlap, left=left, right=overlap - left)

    def rows(self, start: int, end: int) -> tuple[int, int]:
        """Return the first row of a stretch that starts with a row, and one past its last.

        Args:
            start: First base, a multiple of `unit`.
            end: One past the last base.
        """
        return start // self.unit, -(-end // self.unit)

    def covering(self, start: int, end: int) -> tuple[int, int]:
        """Return the smallest part of the grid around a stretch, in bases; it may end behind the chromosome.

        Args:
            start: First base.
            end: One past the last base.
        """
        return start // self.stride * self.stride, -(-end // self.stride) * self.stride

    def reach(self, span: Span, length: int) -> tuple[int, int]:
        """Return the stretch that holds everything that the windows of a part of the grid read.

        Args:
            span: Part of the grid.
            length: Bases of the chromosome.
        """
        _, end = self.covering(span.start, span.end)
        return max(0, span.start - max(0, self.left)), min(length, end + max(0, self.right))

    def windows(self, span: Span, length: int) -> Iterator[Window]:
        """Yield the windows of a part of the grid; one that would read nothing is left out.

        Args:
            span: Part of the grid: its start is a multiple of `stride`.
            length: Bases of the chromosome.
        """
        for kept in range(span.start, span.end, self.stride):
            start, end = max(0, kept - self.left), min(length, kept + self.stride + self.right)
            if start < end:
                yield Window(start, end, *self.rows(kept, min(kept + self.stride, span.end)))


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name}: expected a positive number of bases, got {value}")
