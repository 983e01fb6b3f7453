"""Check that nothing in the test set can be recognised from the training set, and name what can."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genomics.coordinates import Coordinates, most_overlapping
from genomics.copies import Twins, interval_twins, sequence_twins
from genomics.interval_sets import LabelledIntervals
from genomics.similarity import most_alike

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

_LEVEL = {"train": 0, "validation": 1, "test": 2}
_LISTED = 100
_SERIOUS = 0.02
_SERIOUS_IN_A_CLASS = 0.05

Match = tuple[int, float]
"""The sequence that gives another one away, and how much of it."""


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
        by_class: The same counts of each class, for the test sequences alone; empty for regression.
        similarity: Containment from which two sequences counted as alike; None where only coordinates were
            compared.
    """

    exact: list[Leak] = field(default_factory=list)
    reverse_complement: list[Leak] = field(default_factory=list)
    overlaps: list[Leak] = field(default_factory=list)
    similar: list[Leak] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    by_class: dict[str, dict[str, int]] = field(default_factory=dict)
    similarity: float | None = 0.5

    @property
    def ok(self) -> bool:
        """Whether no held-out sequence has a copy, an overlap or a look-alike."""
        return self.counts.get("affected", 0) == 0

    @property
    def serious(self) -> bool:
        """Whether so many held-out sequences are affected that a metric moves visibly.

        That is over 2 % of all, or over 5 % of the test sequences of a class.
        """
        worst = max((_share(counts) for counts in self.by_class.values()), default=0.0)
        return _share(self.counts) > _SERIOUS or worst > _SERIOUS_IN_A_CLASS

    def summary(self) -> str:
        """Return the result in a few sentences."""
        held_out = self.counts["held_out"]
        if self.ok:
            what = "copy or overlap" if self.similarity is None else "copy or look-alike"
            return f"No leak: none of the {held_out:,} held-out sequences has a {what} in training."
        kinds = {
            "exact": "an exact copy",
            "reverse_complement": "a reverse-complement copy",
            "overlaps": "overlapping coordinates",
            "similar": f"a look-alike (at least {self.similarity or 0:.0%} of 12-mers in common)",
        }
        found = [f"{self.counts[kind]:,} {words}" for kind, words in kinds.items() if self.counts[kind]]
        first = next(leaks for leaks in self._lists() if leaks)[0]
        affected = self.counts["affected"]
        return (
            f"Leak: {affected:,} of {held_out:,} held-out sequences ({affected / held_out:.1%}) can be "
            f"recognised from an earlier part: {', '.join(found)}.{self._worst_class()} "
            f"For example {first.name_a} ({first.split_a}) and "
            f"{first.name_b} ({first.split_b})."
        )

    def _worst_class(self) -> str:
        """Name the class that is affected most, where the classes differ much."""
        if len(self.by_class) < 2:
            return ""
        shares = {name: _share(counts) for name, counts in self.by_class.items()}
        worst = max(shares, key=lambda name: shares[name])
        if shares[worst] < 1.5 * _share(self.counts):
            return ""
        counts = self.by_class[worst]
        kinds = {"exact": "have an exact copy", "overlaps": "overlap one"}
        said = [
            f"{counts[kind] / counts['held_out']:.1%} {words}"
            for kind, words in kinds.items()
            if counts[kind]
        ]
        detail = f" ({', '.join(said)})" if said else ""
        return f" Of the test sequences of class {worst}, {shares[worst]:.1%} can be{detail}."

    def _lists(self) -> tuple[list[Leak], ...]:
        return self.exact, self.reverse_complement, self.overlaps, self.similar

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings for JSON, with what the properties say."""
        return {**asdict(self), "ok": self.ok, "serious": self.serious, "summary": self.summary()}


def check_leaks(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, *, similarity: float = 0.5
) -> LeakReport:
    """Look for held-out sequences that training has seen, copied, overlapped or nearly seen.

    Args:
        records: The data set; of intervals without sequences, only coordinates are compared.
        assignment: Part of each sequence, str (n,); other values than train, validation and test take no
            part.
        similarity: Containment from which two sequences count as alike, in (0, 1].

    Returns:
        The offenders by name, and their number.
    """
    level = np.array([_LEVEL.get(str(part), -1) for part in assignment], dtype=np.int64)
    found = _matches(records, level, similarity)
    hit = {kind: np.zeros(len(level), dtype=bool) for kind in found}
    for kind, pairs in found.items():
        hit[kind][list(pairs)] = True

    def counts(chosen: np.ndarray) -> dict[str, int]:
        return {
            **{kind: int((rows & chosen).sum()) for kind, rows in hit.items()},
            "affected": int((np.any(list(hit.values()), axis=0) & chosen).sum()),
            "held_out": int(chosen.sum()),
        }

    def listed(pairs: dict[int, Match]) -> list[Leak]:
        worst = sorted(pairs, key=lambda i: (-level[i], -pairs[i][1], i))[:_LISTED]
        return [
            Leak(records.names[i], str(assignment[i]), records.names[j], str(assignment[j]), shared)
            for i in worst
            for j, shared in [pairs[i]]
        ]

    return LeakReport(
        **{kind: listed(pairs) for kind, pairs in found.items()},
        counts=counts(level > 0),
        by_class={
            name: counts(members)
            for name, members in _tested(records, level == _LEVEL["test"])
            if members.any()
        },
        similarity=None if isinstance(records, LabelledIntervals) else similarity,
    )


def given_away_by(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, *, similarity: float = 0.5
) -> dict[int, tuple[str, int]]:
    """Find the sequences that copy, overlap or resemble one of a later part, and say which.

    Args:
        records: The data set.
        assignment: Part of each sequence, str (n,); test comes after validation, validation after train.
        similarity: Containment from which two sequences count as alike, in (0, 1].

    Returns:
        For each such sequence, how it gives itself away (the name of a list of `LeakReport`, copies before
        overlaps before look-alikes), and the sequence of the later part.
    """
    # The other way round than in the check: the later the part, the lower the level.
    last = max(_LEVEL.values())
    level = np.array([last - _LEVEL[str(part)] if part in _LEVEL else -1 for part in assignment])
    reasons: dict[int, tuple[str, int]] = {}
    for kind, pairs in _matches(records, level, similarity).items():
        for i, (j, _) in pairs.items():
            reasons.setdefault(i, (kind, j))
    return reasons


def giveaways(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, *, similarity: float = 0.5
) -> np.ndarray:
    """Find the sequences without which `check_leaks` would find nothing: those alike one of a later part.

    Args:
        records: The data set.
        assignment: Part of each sequence, str (n,); test comes after validation, validation after train.
        similarity: Containment from which two sequences count as alike, in (0, 1].

    Returns:
        Whether each sequence overlaps, copies or resembles a sequence of a later part, bool (n,).
    """
    found = np.zeros(len(records), dtype=bool)
    found[list(given_away_by(records, assignment, similarity=similarity))] = True
    return found


def twins_of(records: LabelledSequences | LabelledIntervals) -> Twins:
    """Number the sequences so that copies share a number, by their bases or, failing those, their places."""
    if isinstance(records, LabelledIntervals):
        return interval_twins(records.places)
    return sequence_twins(records.tokens)


def places_of(records: LabelledSequences | LabelledIntervals) -> Coordinates | None:
    """Return where the sequences lie, or None where that is not known."""
    if isinstance(records, LabelledIntervals):
        return records.places
    return Coordinates.of(records.intervals) if records.intervals else None


def _matches(
    records: LabelledSequences | LabelledIntervals, level: np.ndarray, similarity: float
) -> dict[str, dict[int, Match]]:
    """Find, for the sequences of level > 0, sequences of a lower level that they can be recognised from."""
    exact, reverse = _copies(twins_of(records), level)
    found = {"exact": exact, "reverse_complement": reverse, "overlaps": {}, "similar": {}}
    places = places_of(records)
    if places is not None:
        match, shared = most_overlapping(places, level)
        found["overlaps"] = {
            i: (int(match[i]), float(shared[i])) for i in np.flatnonzero(match >= 0).tolist()
        }
    if not isinstance(records, LabelledIntervals):
        match, value = most_alike(records.tokens, level, similarity)
        found["similar"] = {
            i: (int(match[i]), round(float(value[i]), 4))
            for i in np.flatnonzero(match >= 0).tolist()
            if i not in exact and i not in reverse
        }
    return found


def _copies(twins: Twins, level: np.ndarray) -> tuple[dict[int, Match], dict[int, Match]]:
    """Return, for sequences of level > 0, a lower level's identical sequence and reverse complement."""
    takes_part = np.flatnonzero(level >= 0)
    order = takes_part[np.argsort(level[takes_part], kind="stable")]
    first = np.full(int(max(twins.own.max(initial=-1), twins.other.max(initial=-1))) + 1, -1, dtype=np.int64)
    first[twins.own[order[::-1]]] = order[::-1]
    same, opposite = first[twins.own], first[twins.other]
    held_out = level > 0
    is_exact = held_out & (same >= 0) & (level[same] < level)
    is_reverse = held_out & (opposite >= 0) & (level[opposite] < level) & ~is_exact
    return (
        {i: (int(same[i]), 1.0) for i in np.flatnonzero(is_exact).tolist()},
        {i: (int(opposite[i]), 1.0) for i in np.flatnonzero(is_reverse).tolist()},
    )


def _tested(
    records: LabelledSequences | LabelledIntervals, tested: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield, of each class, which of its sequences are among the tested."""
    labels = np.asarray(records.labels)
    if records.task == "regression":
        return
    for number, name in enumerate(records.classes):
        yield name, tested & (labels == number if labels.ndim == 1 else labels[:, number] > 0.5)


def _share(counts: dict[str, int]) -> float:
    return counts.get("affected", 0) / max(counts.get("held_out", 0), 1)
