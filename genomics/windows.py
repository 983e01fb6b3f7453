"""Windows of genomes for pretraining, each a pure function of a seed, an epoch and a number.

So nothing has to be remembered to go on where a run stopped, and neither the number of worker processes nor
which of them draws a window changes it. A window never leaves the stretch that it was drawn from. The
loader that the published checkpoints were trained with (Caduceus, after HyenaDNA) extends every stretch to
2^20 bases instead, across the border to what is held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from genomics.intervals import Interval
from seqmamba.errors import UserError
from seqmamba.nn.options import require_choice, require_whole

Weighting = Literal["uniform", "size"]
Order = Literal["random", "stream"]
_EVALUATION = 2**32 - 1  # stands in the place of an epoch
_STREAM = 2**32 - 2
_KEYS = 2**62


class Window(NamedTuple):
    """A window, 0-based and half-open.

    Attributes:
        genome: Which of the genomes.
        chrom: Sequence name there.
        start: First base.
        end: One past the last base.
        key: 62 random bits, for what else is random about the window: its strand, its hidden bases.
    """

    genome: int
    chrom: str
    start: int
    end: int
    key: int


@dataclass(frozen=True)
class WindowConfig:
    """How windows are drawn.

    Args:
        length: Bases of a window; stretches that are shorter give windows of their own length.
        tokens_per_batch: Bases of a batch on each device, a multiple of the length.
        steps_per_epoch: Batches of an epoch: from one validation to the next.
        weighting: ``uniform`` draws a genome, then a chromosome, each as likely as the others, then a place.
            ``size`` makes every base of all genomes as likely.
        first_length: Where the warm-up of the length begins: `length` divided by a power of two, or None for
            no warm-up. It doubles until it is `length`, at the same number of bases a batch.
        epochs_per_length: Epochs of each length of the warm-up.
        evaluation_windows: Windows of the fixed lists for validation and for the test.
        order: ``random`` draws every window anew. With ``stream`` each row of the batches reads a stretch
            from a random place to its end, window after window, and then another one; the last base of a
            window is the first of the next, so that a model of the next base guesses all of them. Long runs
            of N are read like everything else.

    Raises:
        UserError: If a value is out of range.
    """

    length: int = 1024
    tokens_per_batch: int = 65_536
    steps_per_epoch: int = 200
    weighting: Weighting = "uniform"
    first_length: int | None = None
    epochs_per_length: int = 1
    evaluation_windows: int = 512
    order: Order = "random"

    def __post_init__(self) -> None:
        require_whole("windows.length", self.length, 2)
        for name in ("tokens_per_batch", "steps_per_epoch", "epochs_per_length", "evaluation_windows"):
            require_whole(f"windows.{name}", getattr(self, name))
        require_choice("windows.weighting", self.weighting, ("uniform", "size"))
        require_choice("windows.order", self.order, ("random", "stream"))
        if self.tokens_per_batch % self.length:
            raise UserError(
                f"windows.tokens_per_batch: expected a multiple of length {self.length}, "
                f"got {self.tokens_per_batch}"
            )
        if self.first_length is None:
            return
        require_whole("windows.first_length", self.first_length, 2)
        ratio, rest = divmod(self.length, self.first_length)
        if rest or ratio & (ratio - 1):
            raise UserError(
                f"windows.first_length: expected length {self.length} divided by a power of two, "
                f"got {self.first_length}"
            )

    def length_in(self, epoch: int) -> int:
        """Return the bases of a window in an epoch, counted from 0."""
        if self.first_length is None:
            return self.length
        doublings = min(epoch // self.epochs_per_length, 64)
        return min(self.length, self.first_length << doublings)

    def batch_size_in(self, epoch: int) -> int:
        """Return the windows of a batch in an epoch, counted from 0."""
        return self.tokens_per_batch // self.length_in(epoch)


class WindowSampler:
    """Draws windows from stretches of genomes.

    Args:
        regions: The stretches of every genome.
        weighting: See `WindowConfig`.
        seed: Of everything.

    Raises:
        UserError: If a genome has no stretch.
    """

    def __init__(self, regions: Sequence[Sequence[Interval]], weighting: Weighting, seed: int) -> None:
        if not regions or not all(regions):
            raise UserError("genomes: every genome needs a part to train on")
        self._genomes = [_Places(stretches, weighting) for stretches in regions]
        sizes = np.array([places.bases for places in self._genomes], dtype=np.float64)
        self._weights = _shares(sizes, weighting)
        self._seed = seed

    def draws(self, epoch: int, number: int, length: int) -> Iterator[Window]:
        """Draw one window again and again: the first that its user can use is the window of that number.

        Args:
            epoch: From 0.
            number: Which window of the epoch, over all devices.
            length: Bases.

        Yields:
            Windows of `length` bases, or of all of a stretch that is shorter.
        """
        generator = np.random.default_rng((self._seed, epoch, number))
        while True:
            yield self._draw(generator, length)[0]

    def stream(self, epoch: int, row: int, steps: int, length: int) -> list[tuple[Window, bool]]:
        """Return what a row of the batches reads in an epoch.

        Args:
            epoch: From 0.
            row: Which row, over all devices.
            steps: Batches of the epoch.
            length: Bases of a window.

        Returns:
            The window of each step, and whether a stretch begins with it.
        """
        generator = np.random.default_rng((self._seed, epoch, row, _STREAM))
        found: list[tuple[Window, bool]] = []
        while len(found) < steps:
            window, end = self._draw(generator, length)
            found.append((window, True))
            while window.end < end and len(found) < steps:
                start = window.end - 1
                key = int(generator.integers(_KEYS))
                window = Window(window.genome, window.chrom, start, min(start + length, end), key)
                found.append((window, False))
        return found

    def _draw(self, generator: np.random.Generator, length: int) -> tuple[Window, int]:
        """Return a window and the end of its stretch."""
        key = int(generator.integers(_KEYS))
        genome = int(generator.choice(len(self._genomes), p=self._weights))
        interval = self._genomes[genome].draw(generator)
        start = interval.start + int(generator.integers(max(1, len(interval) - length + 1)))
        return Window(genome, interval.chrom, start, min(start + length, interval.end), key), interval.end


class _Places:
    """The stretches of one genome, grouped by chromosome."""

    def __init__(self, stretches: Sequence[Interval], weighting: Weighting) -> None:
        groups: dict[str, list[Interval]] = {}
        for interval in stretches:
            groups.setdefault(interval.chrom, []).append(interval)
        self._groups = list(groups.values())
        self._ends = [np.cumsum([len(interval) for interval in group]) for group in self._groups]
        sizes = np.array([ends[-1] for ends in self._ends], dtype=np.float64)
        self._weights = _shares(sizes, weighting)
        self.bases = int(sizes.sum())

    def draw(self, generator: np.random.Generator) -> Interval:
        """Draw a stretch: first its chromosome, then as likely as it is long."""
        chrom = int(generator.choice(len(self._groups), p=self._weights))
        ends = self._ends[chrom]
        place = int(np.searchsorted(ends, generator.integers(ends[-1]), side="right"))
        return self._groups[chrom][place]


def _shares(sizes: npt.NDArray[np.float64], weighting: Weighting) -> npt.NDArray[np.float64]:
    return np.full(len(sizes), 1 / len(sizes)) if weighting == "uniform" else sizes / sizes.sum()


def evaluation_candidates(
    stretches: Sequence[Interval], genome: int, length: int, seed: int
) -> Iterator[Window]:
    """Return the windows that a fixed list may hold, in a random order that only the seed decides.

    They lie side by side from the start of every stretch. What remains at its end is left out, unless the
    whole stretch is shorter than a window.

    Args:
        stretches: Of one part of one genome.
        genome: Which genome.
        length: Bases of a window.
        seed: Of the order and of the windows' keys.

    Yields:
        Windows that do not overlap, each once.
    """
    counts = np.array([max(1, len(interval) // length) for interval in stretches], dtype=np.int64)
    ends = np.cumsum(counts)
    generator = np.random.default_rng((seed, _EVALUATION, genome))
    for place in generator.permutation(int(ends[-1]) if len(ends) else 0).tolist():
        which = int(np.searchsorted(ends, place, side="right"))
        interval = stretches[which]
        start = interval.start + (place - int(ends[which] - counts[which])) * length
        key = int(generator.integers(_KEYS))
        yield Window(genome, interval.chrom, start, min(start + length, interval.end), key)
