"""Background windows that match given ones in length and GC content, so that neither gives them away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from genomics.alphabet import C, G, N, TokenArray, gc_fraction
from genomics.fasta import Fasta
from genomics.intervals import Interval
from seqmamba.errors import UserError

_CANDIDATES = 64
_ROUNDS = 16
_CLOSE_ENOUGH = 0.02


def matched_negatives(
    positives: Sequence[Interval], genome: Fasta, seed: int = 0
) -> tuple[list[Interval], float]:
    """Draw one negative window for every positive one.

    Each lies on the same chromosome (so a split by chromosome stays balanced), has the same length and
    strand, holds no N, and overlaps neither a positive nor another negative. Of 64 random candidates at a
    time the one with the nearest GC content is taken, as soon as it is within 2 percentage points, or the
    best of 16 rounds.

    Args:
        positives: The windows to match; chromosome names as in `genome`.
        genome: Where to draw from.
        seed: Seed of the draw.

    Returns:
        The negatives in the order of the positives, and the mean absolute difference in GC content.

    Raises:
        UserError: If a chromosome has no room for a window.
    """
    by_chromosome: dict[str, list[int]] = defaultdict(list)
    for number, interval in enumerate(positives):
        by_chromosome[interval.chrom].append(number)
    negatives: list[Interval | None] = [None] * len(positives)
    differences = np.zeros(len(positives))
    for order, name in enumerate(genome.names):
        chosen = by_chromosome.get(name)
        if not chosen:
            continue
        generator = np.random.default_rng((seed, order))
        tokens = genome.fetch(name, 0, genome.length(name))
        gc = {
            number: gc_fraction(tokens[positives[number].start : positives[number].end]) for number in chosen
        }
        for number in chosen:  # what is taken reads as N from here on
            tokens[positives[number].start : positives[number].end] = N
        for number in chosen:
            length = len(positives[number])
            start, difference = _draw(tokens, length, gc[number], generator)
            if start is None:
                raise UserError(
                    f"{genome.path}: no room on {name} for another {length}-base window without N",
                    hint="give negatives yourself, in a second BED file",
                )
            tokens[start : start + length] = N
            negatives[number] = Interval(name, start, start + length, positives[number].strand)
            differences[number] = difference
    return [negative for negative in negatives if negative is not None], float(differences.mean())


def _draw(
    tokens: TokenArray, length: int, gc: float, generator: np.random.Generator
) -> tuple[int | None, float]:
    best: int | None = None
    best_difference = np.inf
    for _ in range(_ROUNDS):
        starts = generator.integers(0, len(tokens) - length + 1, size=_CANDIDATES)
        windows = tokens[starts[:, None] + np.arange(length)]
        differences = np.abs(((windows == G) | (windows == C)).mean(axis=1) - gc)
        differences[(windows == N).any(axis=1)] = np.inf
        nearest = int(differences.argmin())
        if differences[nearest] < best_difference:
            best, best_difference = int(starts[nearest]), float(differences[nearest])
        if best_difference <= _CLOSE_ENOUGH:
            break
    return best, best_difference
