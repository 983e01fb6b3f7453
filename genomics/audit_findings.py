"""What the numbers of an audit mean, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genomics.shortcuts import SHORTCUTS, Shortcut

if TYPE_CHECKING:
    from genomics.audit import AuditReport

VERDICTS = {
    "bad": "Do not evaluate on these data as they are.",
    "warn": "Usable with care.",
    "good": "No problem found.",
}
"""The conclusion from the worst finding; the levels from worst to best."""

_SHORTCUT_FROM = 0.2
_SHORTCUT_BAD = 0.5
_NATURAL = ("gc", "grid", "chromosome")
"""GC content differs between many elements by nature, and no model reads where a sequence lies; length and N
come from how the data were made."""
_MANY_CONFLICTS = 0.01
_MANY_REPEATS = 0.2
_MANY_N = 0.05


@dataclass(frozen=True)
class Finding:
    """One observation: ``bad``, ``warn`` or ``good``, and a sentence."""

    level: str
    text: str


def findings_of(report: AuditReport) -> list[Finding]:
    """Judge what an audit measured.

    Args:
        report: The report, without findings.

    Returns:
        The findings, the worst first.
    """
    findings = [*_leaks(report), *_copies(report), *_conflicts(report), *_shortcuts(report)]
    ambiguous = report.groups["all"].ambiguous
    if ambiguous is not None and ambiguous > _MANY_N:
        findings.append(Finding("warn", f"{ambiguous:.1%} of all bases are not A, C, G or T."))
    if report.compared == "coordinates":
        text = (
            "Only coordinates were compared; with the genome, look-alikes, GC content and N are checked, too."
        )
        findings.append(Finding("good", text))
    severity = list(VERDICTS)
    return sorted(findings, key=lambda finding: severity.index(finding.level))


def _leaks(report: AuditReport) -> list[Finding]:
    if report.leaks is None:
        return []
    level = "good" if report.leaks.ok else "bad" if report.leaks.serious else "warn"
    return [Finding(level, report.leaks.summary())]


def _copies(report: AuditReport) -> list[Finding]:
    total = report.groups["all"].n
    exact, reverse = report.copies["exact"], report.copies["reverse_complement"]
    what = "interval" if report.compared == "coordinates" else "sequence"
    if not exact + reverse:
        return [Finding("good", f"No {what} repeats another one, on either strand.")]
    text = (
        f"{exact + reverse:,} of {total:,} {what}s repeat another one ({exact:,} letter for letter, "
        f"{reverse:,} on the other strand)."
    )
    classes = {name: facts for name, facts in report.groups.items() if name != "all"}
    worst = max(classes, key=lambda name: classes[name].repeated / classes[name].n, default=None)
    if worst is not None and classes[worst].repeated / classes[worst].n > _MANY_REPEATS:
        facts = classes[worst]
        text += f" Of the {facts.n:,} of class {worst}, only {facts.n - facts.repeated:,} differ."
    return [Finding("warn", text)]


def _conflicts(report: AuditReport) -> list[Finding]:
    if not report.n_conflicts:
        return []
    example = " and ".join(report.conflicts[0][:2])
    level = "bad" if report.n_conflicts > _MANY_CONFLICTS * report.groups["all"].n else "warn"
    text = f"Sequences that occur with different labels: {report.n_conflicts:,}, for example {example}."
    return [Finding(level, text)]


def _shortcuts(report: AuditReport) -> list[Finding]:
    if not report.shortcuts:
        return [Finding("warn", "Shortcuts were not tested: there are fewer than ten sequences.")]
    findings = []
    for fact, shortcut in report.shortcuts.items():
        skill = shortcut.skill
        # An interval that excludes nothing, or none at all, is no evidence.
        if not (skill.low > 0 and skill.value >= _SHORTCUT_FROM):
            continue
        level = "warn" if fact in _NATURAL or skill.value < _SHORTCUT_BAD else "bad"
        name = SHORTCUTS[fact]
        findings.append(Finding(level, f"{name[0].upper()}{name[1:]} alone {_reaches(shortcut)}"))
    if not findings:
        names = list(report.shortcuts)
        known = ", ".join(SHORTCUTS[fact] for fact in names[:-1]) + f" nor {SHORTCUTS[names[-1]]}"
        findings.append(Finding("good", f"Neither {known} alone tells the labels."))
    return findings


def _reaches(shortcut: Shortcut) -> str:
    skill = shortcut.skill
    score = f"{skill.value:.2f} (95 % interval {skill.low:.2f} to {skill.high:.2f})"
    if shortcut.accuracy is None or shortcut.majority is None:
        return f"tells the targets with a correlation of {score}."
    return (
        f"tells {shortcut.accuracy:.1%} of the labels, where always saying the commonest makes "
        f"{shortcut.majority:.1%}; correlation {score}."
    )
