"""Check that nothing in the test set can be recognised from the training set, and name what can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genomics.alphabet import reverse_complement
from genomics.intervals import chrom_key
from genomics.similarity import canonical_groups, most_alike

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences
    from genomics.intervals import Interval

_LEVEL = {"train": 0, "validation": 1, "test": 2}
_LISTED = 100


class Leak(NamedTuple):
    """A held-out sequence and the sequence that gives it away.

    ``value`` is the bases shared for an overlap, else the share of the shorter sequence's words found in the
    other.
    """

    name_a: str
    split_a: str
    name_b: str
    split_b: str
    value: float


@dataclass(frozen=True)
class LeakReport:
    """Held-out sequences that have a copy, an overlap or a look-alike in an earlier part.

    Test sequences are compared with training and validation, validation sequences with training. Each
    held-out sequence is listed at most once in each list; one with an exact copy is not listed again among
    the similar.

    Args:
        exact: The same bases, letter for letter.
        reverse_complement: The same bases on the other strand.
        overlaps: Genome coordinates that overlap.
        similar: Alike without being a copy.
        counts: How many held-out sequences each list stands for (the lists stop at 100), and
            ``affected``: how many have any of the four, and ``held_out``: how many there are.
        similarity: Containment from which two sequences counted as alike.
    """

    exact: list[Leak] = field(default_factory=list)
    reverse_complement: list[Leak] = field(default_factory=list)
    overlaps: list[Leak] = field(default_factory=list)
    similar: list[Leak] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    similarity: float = 0.5

    @property
    def ok(self) -> bool:
        """Whether no held-out sequence has a copy, an overlap or a look-alike."""
        return self.counts.get("affected", 0) == 0

    @property
    def serious(self) -> bool:
        """Whether over 1 % of the held-out sequences are affected, enough to move a metric visibly."""
        return self.counts.get("affected", 0) > 0.01 * self.counts.get("held_out", 0)

    def summary(self) -> str:
        """Return the result in one or two sentences."""
        held_out = self.counts["held_out"]
        if self.ok:
            return (
                f"No leak: none of the {held_out:,} held-out sequences has a copy or look-alike in training."
            )
        kinds = {
            "exact": "an exact copy",
            "reverse_complement": "a reverse-complement copy",
            "overlaps": "overlapping coordinates",
            "similar": f"a look-alike (at least {self.similarity:.0%} of 12-mers in common)",
        }
        found = [f"{self.counts[kind]:,} {words}" for kind, words in kinds.items() if self.counts[kind]]
        first = next(leaks for leaks in self._lists() if leaks)[0]
        affected = self.counts["affected"]
        return (
            f"Leak: {affected:,} of {held_out:,} held-out sequences ({affected / held_out:.1%}) can be "
            f"recognised from an earlier part: {', '.join(found)}. "
            f"For example {first.name_a} ({first.split_a}) and "
            f"{first.name_b} ({first.split_b})."
        )

    def _lists(self) -> tuple[list[Leak], ...]:
        return self.exact, self.reverse_complement, self.overlaps, self.similar

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings for JSON, with what the properties say."""
        return {**asdict(self), "ok": self.ok, "serious": self.serious, "summary": self.summary()}


def check_leaks(records: LabelledSequences, assignment: np.ndarray, *, similarity: float = 0.5) -> LeakReport:
    """Look for held-out sequences that training has seen, copied, overlapped or nearly seen.

    Args:
        records: The data set.
        assignment: Part of each sequence, str (n,); other values than train, validation and test take no
            part.
        similarity: Containment from which two sequences count as alike, in (0, 1].

    Returns:
        The offenders by name, and their number.
    """
    level = np.array([_LEVEL.get(str(part), -1) for part in assignment], dtype=np.int64)
    exact, reverse = _copies(records, level)
    overlaps: dict[int, tuple[int, float]] = {}
    if records.intervals:
        for later, earlier, shared in overlapping_pairs(records.intervals, assignment):
            if later not in overlaps or shared > overlaps[later][1]:
                overlaps[later] = (earlier, float(shared))
    match, value = most_alike(records.tokens, level, similarity)
    similar = {
        int(i): (int(match[i]), round(float(value[i]), 4))
        for i in np.flatnonzero(match >= 0)
        if int(i) not in exact and int(i) not in reverse
    }
    found = {"exact": exact, "reverse_complement": reverse, "overlaps": overlaps, "similar": similar}
    counts = {kind: len(pairs) for kind, pairs in found.items()}
    counts["affected"] = len(set().union(*found.values()))
    counts["held_out"] = int((level > 0).sum())

    def listed(pairs: dict[int, tuple[int, float]]) -> list[Leak]:
        worst = sorted(pairs, key=lambda i: (-level[i], -pairs[i][1], i))[:_LISTED]
        return [
            Leak(records.names[i], str(assignment[i]), records.names[j], str(assignment[j]), shared)
            for i in worst
            for j, shared in [pairs[i]]
        ]

    return LeakReport(**{kind: listed(p) for kind, p in found.items()}, counts=counts, similarity=similarity)


def _copies(
    records: LabelledSequences, level: np.ndarray
) -> tuple[dict[int, tuple[int, float]], dict[int, tuple[int, float]]]:
    """Return, for held-out sequences, an earlier part's identical sequence and reverse complement."""
    first: dict[bytes, int] = {}
    exact: dict[int, tuple[int, float]] = {}
    reverse: dict[int, tuple[int, float]] = {}
    for i in np.argsort(level, kind="stable"):
        if level[i] < 0:
            continue
        tokens = records.tokens[i]
        forward, backward = tokens.tobytes(), reverse_complement(tokens).tobytes()
        for key, found in ((forward, exact), (backward, reverse)):
            j = first.get(key)
            if j is not None and level[j] < level[i] and not (found is reverse and int(i) in exact):
                found[int(i)] = (j, 1.0)
        first.setdefault(forward, int(i))
    return exact, reverse


def giveaways(records: LabelledSequences, assignment: np.ndarray, *, similarity: float = 0.5) -> np.ndarray:
    """Find the sequences without which `check_leaks` would find nothing: those alike one of a later part.

    Args:
        records: The data set.
        assignment: Part of each sequence, str (n,); test comes after validation, validation after train.
        similarity: Containment from which two sequences count as alike, in (0, 1].

    Returns:
        Whether each sequence overlaps, copies or resembles a sequence of a later part, bool (n,).
    """
    # The other way round than in the check: the later the part, the lower the level.
    last = max(_LEVEL.values())
    level = np.array([last - _LEVEL[str(part)] if part in _LEVEL else -1 for part in assignment])
    match, _ = most_alike(records.tokens, level, similarity)
    found = match >= 0
    takes_part = level >= 0
    copies = canonical_groups(records.tokens)
    lowest = np.full(len(level), last + 1)
    np.minimum.at(lowest, copies[takes_part], level[takes_part])
    found |= takes_part & (level > lowest[copies])
    if records.intervals:
        found[[earlier for _, earlier, _ in overlapping_pairs(records.intervals, assignment)]] = True
    return found


def overlapping_pairs(intervals: Sequence[Interval], assignment: np.ndarray) -> list[tuple[int, int, int]]:
    """Find sequences of different parts that overlap on the genome, whatever their strand.

    Args:
        intervals: Coordinates of each sequence, 0-based and half-open.
        assignment: Part of each sequence, str (n,).

    Returns:
        Triples (sequence of the later part, sequence of the earlier part, bases shared); test comes after
        validation, validation after train. Sequences outside the three parts are ignored.
    """
    level = [_LEVEL.get(str(part), -1) for part in assignment]
    chromosomes = [chrom_key(interval.chrom) for interval in intervals]
    order = sorted(
        (i for i in range(len(intervals)) if level[i] >= 0),
        key=lambda i: (chromosomes[i], intervals[i].start, intervals[i].end),
    )
    pairs: list[tuple[int, int, int]] = []
    active: list[int] = []
    for position, i in enumerate(order):
        here = intervals[i]
        if position and chromosomes[i] != chromosomes[order[position - 1]]:
            active = []
        active = [j for j in active if intervals[j].end > here.start]
        for j in active:
            if level[i] != level[j]:
                later, earlier = (i, j) if level[i] > level[j] else (j, i)
                shared = min(here.end, intervals[j].end) - max(here.start, intervals[j].start)
                pairs.append((later, earlier, shared))
        active.append(i)
    return pairs
