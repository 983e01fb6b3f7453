"""Look a data set over before anything is trained on it: copies, conflicting labels, leaks and shortcuts.

The shortcuts are the lesson of public benchmarks: of eight widely used sets, one can be solved by sequence
length alone, and in two others most of a test class has copies or overlaps in training. All three show in the
coordinates, without a single base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from genomics.audit_findings import VERDICTS, Finding, findings_of
from genomics.copies import Twins
from genomics.interval_sets import LabelledIntervals
from genomics.kmers import base_codes, kmer_counts
from genomics.leaks import LeakReport, check_leaks, twins_of
from genomics.shortcuts import SHORTCUTS, Shortcut, measure_shortcuts
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

_LISTED = 20


@dataclass(frozen=True)
class GroupFacts:
    """What the sequences of one class, or all of them, look like.

    Args:
        n: Number of sequences.
        length: Shortest, median and longest, in bases.
        repeated: How many of them repeat another one of the group, on either strand.
        gc: Mean share of G and C among A, C, G and T; None where the bases are not known.
        ambiguous: Share of all bases that are not A, C, G or T; None where they are not known.
    """

    n: int
    length: tuple[int, float, int]
    repeated: int
    gc: float | None = None
    ambiguous: float | None = None


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
        compared: ``sequences``, or ``coordinates`` where the bases are not known.
        groups: Facts about ``all`` sequences and about each class.
        copies: How many sequences repeat an earlier one letter for letter (``exact``) or on the other strand
            (``reverse_complement``).
        conflicts: Names of sequences that are copies of each other but have different labels, at most 20
            sets.
        n_conflicts: How many such sets there are.
        parts: Number of sequences of each part of the split.
        leaks: The leak check of the split, if there is one.
        shortcuts: What each fact about a sequence reaches alone.
        findings: What it means, the worst first.
    """

    compared: str
    groups: dict[str, GroupFacts]
    copies: dict[str, int]
    conflicts: list[list[str]]
    n_conflicts: int
    parts: dict[str, int]
    leaks: LeakReport | None
    shortcuts: dict[str, Shortcut]
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing bad was found; there may be warnings."""
        return all(finding.level != "bad" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The conclusion in one sentence."""
        return VERDICTS[self.findings[0].level if self.findings else "good"]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        leaks = None if self.leaks is None else self.leaks.as_dict()
        return {**asdict(self), "leaks": leaks, "ok": self.ok, "verdict": self.verdict}

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = _aligned(
            [("", "sequences", "repeated", "length min/median/max", "GC", "not ACGT")]
            + [
                (
                    name,
                    f"{facts.n:,}",
                    f"{facts.repeated:,}",
                    "{:,} / {:,g} / {:,}".format(*facts.length),
                    "" if facts.gc is None else f"{facts.gc:.1%}",
                    "" if facts.ambiguous is None else f"{facts.ambiguous:.2%}",
                )
                for name, facts in self.groups.items()
            ]
        )
        if self.parts:
            parts = ", ".join(f"{part} {number:,}" for part, number in self.parts.items())
            lines += ["", f"split: {parts}"]
        if self.shortcuts:
            lines += ["", *_shortcut_lines(self.shortcuts)]
        lines += ["", *(f"{finding.level:>4}: {finding.text}" for finding in self.findings)]
        return "\n".join([*lines, "", f"verdict: {self.verdict}"])


def audit(
    records: LabelledSequences | LabelledIntervals,
    assignment: np.ndarray | None = None,
    *,
    similarity: float = 0.5,
) -> AuditReport:
    """Examine a data set, and its split if it has one.

    Args:
        records: The data set; of intervals without sequences, what their coordinates tell.
        assignment: Part of each sequence, str (n,). Without one, leaks are not checked, and shortcuts are
            tested by cross-validation.
        similarity: Containment from which two sequences count as alike, in (0, 1]; see
            `genomics.leaks.check_leaks`.

    Raises:
        UserError: If there is no sequence.
    """
    if len(records) == 0:
        raise UserError("audit: expected at least one sequence, got none")
    twins = twins_of(records)
    conflicts = conflicting(twins, np.asarray(records.labels))
    report = AuditReport(
        compared="coordinates" if isinstance(records, LabelledIntervals) else "sequences",
        groups=_groups(records, twins),
        copies=_copies(twins),
        conflicts=[[records.names[i] for i in members] for members in conflicts[:_LISTED]],
        n_conflicts=len(conflicts),
        parts={} if assignment is None else _part_sizes(assignment),
        leaks=None if assignment is None else check_leaks(records, assignment, similarity=similarity),
        shortcuts=measure_shortcuts(records, assignment),
    )
    return AuditReport(**{**vars(report), "findings": findings_of(report)})


def conflicting(twins: Twins, labels: np.ndarray) -> list[list[int]]:
    """Find sets of copies, on either strand, whose labels differ.

    Args:
        twins: Which sequences are copies.
        labels: Label or labels of each sequence, (n,) or (n, k).

    Returns:
        The members of each set, sets in order of their first members.
    """
    _, first, group = np.unique(twins.groups(), return_index=True, return_inverse=True)
    rows = labels.reshape(len(labels), -1)
    differs = (rows != rows[first[group]]).any(1)
    wanted = np.isin(group, group[differs])
    sets: dict[int, list[int]] = {}
    for i in np.flatnonzero(wanted).tolist():
        sets.setdefault(int(group[i]), []).append(i)
    return list(sets.values())


def _copies(twins: Twins) -> dict[str, int]:
    letters, groups = len(np.unique(twins.own)), len(np.unique(twins.groups()))
    return {"exact": len(twins.own) - letters, "reverse_complement": letters - groups}


def _part_sizes(assignment: np.ndarray) -> dict[str, int]:
    sizes = {part: int(np.sum(assignment == part)) for part in PARTS}
    left_out = len(assignment) - sum(sizes.values())
    return {part: size for part, size in sizes.items() if size} | ({"left out": left_out} if left_out else {})


def _groups(records: LabelledSequences | LabelledIntervals, twins: Twins) -> dict[str, GroupFacts]:
    everything = np.ones(len(records), dtype=bool)
    members = {"all": everything}
    labels = np.asarray(records.labels)
    if records.task != "regression":
        for number, name in enumerate(records.classes):
            chosen = labels == number if labels.ndim == 1 else labels[:, number] > 0.5
            if chosen.any():
                members[name] = chosen
    copies = twins.groups()
    if isinstance(records, LabelledIntervals):
        lengths, bases = records.places.end - records.places.start, None
    else:
        codes, offsets = base_codes(records.tokens)
        lengths = np.diff(offsets)
        bases = kmer_counts(codes, offsets, 1, canonical=False).astype(np.float64)
    return {name: _facts(lengths, bases, copies, chosen) for name, chosen in members.items()}


def _facts(
    lengths: np.ndarray, bases: np.ndarray | None, copies: np.ndarray, chosen: np.ndarray
) -> GroupFacts:
    some = lengths[chosen]
    length = int(some.min()), float(np.median(some)), int(some.max())
    repeated = int(chosen.sum()) - len(np.unique(copies[chosen]))
    if bases is None:
        return GroupFacts(int(chosen.sum()), length, repeated)
    known = bases.sum(1)
    with_bases = chosen & (known > 0)
    gc = (bases[with_bases, 1:3].sum(1) / known[with_bases]).mean() if with_bases.any() else 0.0
    ambiguous = 1 - known[chosen].sum() / max(some.sum(), 1)
    return GroupFacts(int(chosen.sum()), length, repeated, float(gc), float(ambiguous))


def _shortcut_lines(shortcuts: dict[str, Shortcut]) -> list[str]:
    some = next(iter(shortcuts.values()))
    tested = f"tested on {some.tested_on:,}" + (" in turns" if some.cross_validated else "")
    rows = [(f"alone ({tested})", "right", "always the commonest", "correlation")]
    for fact, shortcut in shortcuts.items():
        right, constant = (
            "" if share is None else f"{share:.1%}" for share in (shortcut.accuracy, shortcut.majority)
        )
        value = shortcut.skill.value
        rows.append((SHORTCUTS[fact], right, constant, "" if np.isnan(value) else f"{value:.2f}"))
    return _aligned(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
