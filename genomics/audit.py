"""Look a data set over before anything is trained on it: copies, conflicting labels, leaks and shortcuts.

The shortcuts are the lesson of public benchmarks: of eight widely used sets, one can be solved by sequence
length alone, and in two others most of a test class has copies or overlaps in training.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from genomics.baselines import Problem, composition_baseline
from genomics.kmers import base_codes, kmer_counts
from genomics.leaks import LeakReport, check_leaks
from genomics.metrics import Estimate
from genomics.similarity import canonical_groups
from genomics.splits import SplitConfig, assign
from genomics.stratify import PARTS
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

SHORTCUTS = {"length": "sequence length", "gc": "GC content", "ambiguity": "the share of N"}
"""Facts about a sequence that should not give its label away, with their names in words."""

_SHORTCUT_METRIC = {"classification": "mcc", "multilabel": "mcc", "regression": "pearson"}
_SHORTCUT_FROM = 0.2
_LISTED = 20
_VERDICTS = {
    "bad": "Do not evaluate on these data as they are.",
    "warn": "Usable with care.",
    "good": "No problem found.",
}


@dataclass(frozen=True)
class Finding:
    """One observation: ``bad``, ``warn`` or ``good``, and a sentence."""

    level: str
    text: str


@dataclass(frozen=True)
class GroupFacts:
    """What the sequences of one class, or all of them, look like.

    Args:
        n: Number of sequences.
        length: Shortest, median and longest, in bases.
        gc: Mean share of G and C among A, C, G and T.
        ambiguous: Share of all bases that are not A, C, G or T.
    """

    n: int
    length: tuple[int, float, int]
    gc: float
    ambiguous: float


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Args:
        groups: Facts about ``all`` sequences and about each class.
        copies: How many sequences repeat an earlier one letter for letter (``exact``) or on the other strand
            (``reverse_complement``).
        conflicts: Names of sequences that are copies of each other but have different labels, at most 20
            sets.
        n_conflicts: How many such sets there are.
        parts: Number of sequences of each part of the split.
        leaks: The leak check of the split, if there is one.
        shortcuts: MCC (for regression, Pearson's r) that each fact reaches alone on the test part.
        findings: What it means, the worst first.
    """

    groups: dict[str, GroupFacts]
    copies: dict[str, int]
    conflicts: list[list[str]]
    n_conflicts: int
    parts: dict[str, int]
    leaks: LeakReport | None
    shortcuts: dict[str, Estimate]
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing bad was found; there may be warnings."""
        return all(finding.level != "bad" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The conclusion in one sentence."""
        return _VERDICTS[self.findings[0].level if self.findings else "good"]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        leaks = None if self.leaks is None else self.leaks.as_dict()
        return {**asdict(self), "leaks": leaks, "ok": self.ok, "verdict": self.verdict}

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        rows = [("", "sequences", "length min/median/max", "GC", "not ACGT")]
        for name, facts in self.groups.items():
            low, middle, high = facts.length
            rows.append(
                (
                    name,
                    f"{facts.n:,}",
                    f"{low:,} / {middle:,g} / {high:,}",
                    f"{facts.gc:.1%}",
                    f"{facts.ambiguous:.2%}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if self.parts:
            parts = ", ".join(f"{part} {number:,}" for part, number in self.parts.items())
            lines += ["", f"split: {parts}"]
        lines += ["", *(f"{finding.level:>4}: {finding.text}" for finding in self.findings)]
        return "\n".join([*lines, "", f"verdict: {self.verdict}"])


def audit(records: LabelledSequences, assignment: np.ndarray | None = None) -> AuditReport:
    """Examine a data set, and its split if it has one.

    Args:
        records: The data set.
        assignment: Part of each sequence, str (n,). Without one, leaks are not checked, and shortcuts are
            tested on the default split.

    Raises:
        UserError: If there is no sequence.
    """
    if len(records.names) == 0:
        raise UserError("audit: expected at least one sequence, got none")
    copies, conflicts = _copies(records)
    leaks = None if assignment is None else check_leaks(records, assignment)
    shortcuts, skipped = _shortcuts(records, assignment)
    report = AuditReport(
        groups=_groups(records),
        copies=copies,
        conflicts=[[records.names[i] for i in members] for members in conflicts[:_LISTED]],
        n_conflicts=len(conflicts),
        parts={} if assignment is None else _part_sizes(assignment),
        leaks=leaks,
        shortcuts=shortcuts,
    )
    return _with_findings(report, skipped)


def _part_sizes(assignment: np.ndarray) -> dict[str, int]:
    sizes = {part: int(np.sum(assignment == part)) for part in PARTS}
    left_out = len(assignment) - sum(sizes.values())
    return sizes | ({"left out": left_out} if left_out else {})


def _groups(records: LabelledSequences) -> dict[str, GroupFacts]:
    codes, offsets = base_codes(records.tokens)
    lengths = np.diff(offsets)
    bases = kmer_counts(codes, offsets, 1, canonical=False).astype(np.float64)
    known = bases.sum(1)

    def facts(chosen: np.ndarray) -> GroupFacts:
        some = lengths[chosen]
        with_bases = chosen & (known > 0)
        gc = (bases[with_bases, 1:3].sum(1) / known[with_bases]).mean() if with_bases.any() else 0.0
        return GroupFacts(
            n=int(chosen.sum()),
            length=(int(some.min()), float(np.median(some)), int(some.max())),
            gc=float(gc),
            ambiguous=float(1 - known[chosen].sum() / max(some.sum(), 1)),
        )

    groups = {"all": facts(np.ones(len(lengths), dtype=bool))}
    if records.task == "regression":
        return groups
    labels = np.asarray(records.labels)
    for number, name in enumerate(records.classes):
        members = labels == number if labels.ndim == 1 else labels[:, number] > 0.5
        if members.any():
            groups[name] = facts(members)
    return groups


def _copies(records: LabelledSequences) -> tuple[dict[str, int], list[list[int]]]:
    """Count repeats and find sets of copies whose labels differ."""
    sets: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(canonical_groups(records.tokens)):
        sets[int(group)].append(i)
    labels = np.asarray(records.labels).reshape(len(records.names), -1)
    exact = reverse = 0
    conflicts = []
    for members in sets.values():
        if len(members) == 1:
            continue
        distinct = len({records.tokens[i].tobytes() for i in members})
        exact += len(members) - distinct
        reverse += distinct - 1
        if (labels[members] != labels[members[0]]).any():
            conflicts.append(members)
    return {"exact": exact, "reverse_complement": reverse}, conflicts


def _shortcuts(
    records: LabelledSequences, assignment: np.ndarray | None
) -> tuple[dict[str, Estimate], str | None]:
    """Return what each fact alone reaches, or why that could not be tested."""
    try:
        if assignment is None:
            assignment = assign(records, SplitConfig())[0]
        problem = Problem.build(records, assignment)
    except UserError as error:
        return {}, error.message
    metric = _SHORTCUT_METRIC[records.task]
    return {fact: composition_baseline(problem, fact, (fact,)).metrics[metric] for fact in SHORTCUTS}, None


def _with_findings(report: AuditReport, skipped: str | None) -> AuditReport:
    findings = [*_leak_findings(report), *_copy_findings(report), *_shortcut_findings(report)]
    if skipped is not None:
        findings.append(Finding("warn", f"Shortcuts were not tested: {skipped}."))
    if report.groups["all"].ambiguous > 0.05:
        findings.append(
            Finding("warn", f"{report.groups['all'].ambiguous:.1%} of all bases are not A, C, G or T.")
        )
    severity = list(_VERDICTS)
    ranked = sorted(findings, key=lambda finding: severity.index(finding.level))
    return AuditReport(**{**vars(report), "findings": ranked})


def _leak_findings(report: AuditReport) -> list[Finding]:
    if report.leaks is None:
        return []
    level = "good" if report.leaks.ok else "bad" if report.leaks.serious else "warn"
    return [Finding(level, report.leaks.summary())]


def _copy_findings(report: AuditReport) -> list[Finding]:
    findings = []
    total = report.groups["all"].n
    repeated = sum(report.copies.values())
    if repeated:
        exact, reverse = report.copies["exact"], report.copies["reverse_complement"]
        text = f"{repeated:,} of {total:,} sequences repeat another one ({exact:,} letter for letter, "
        findings.append(Finding("warn", f"{text}{reverse:,} on the other strand)."))
    else:
        findings.append(Finding("good", "No sequence repeats another one, on either strand."))
    if report.n_conflicts:
        example = " and ".join(report.conflicts[0][:2])
        level = "bad" if report.n_conflicts > 0.01 * total else "warn"
        text = f"Sequences that occur with different labels: {report.n_conflicts:,}, for example {example}."
        findings.append(Finding(level, text))
    return findings


def _shortcut_findings(report: AuditReport) -> list[Finding]:
    findings = []
    for fact, estimate in report.shortcuts.items():
        score = f"{estimate.value:.2f} (95 % interval {estimate.low:.2f} to {estimate.high:.2f})"
        # An interval that excludes nothing, or none at all, is no evidence.
        if not (estimate.low > 0 and estimate.value >= _SHORTCUT_FROM):
            continue
        # GC content differs between many elements by nature; length and N come from how data were made.
        level = "warn" if fact == "gc" or estimate.value < 0.5 else "bad"
        name = SHORTCUTS[fact]
        text = f"{name[0].upper()}{name[1:]} alone predicts the labels with a correlation of {score}."
        findings.append(Finding(level, text))
    if report.shortcuts and not findings:
        findings.append(
            Finding("good", "Neither length, GC content nor the share of N alone tells the labels.")
        )
    return findings
