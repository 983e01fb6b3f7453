"""Make a sound split of a leaking one: training gives way, the test part stays as it is.

What stays comparable with published numbers is the test part, so no row of it is removed or changed. What
goes is whatever in training (and validation) gives a later part away, then copies inside a part, then copies
whose labels disagree.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from genomics.alphabet import decode
from genomics.audit import conflicting
from genomics.copies import Twins
from genomics.interval_sets import LabelledIntervals, write_intervals
from genomics.intervals import parse_header
from genomics.leaks import given_away_by, twins_of
from seqmamba.atomic import atomic_folder
from seqmamba.errors import UserError
from seqmamba.stratify import PARTS

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

REASONS = {
    "exact": "copies a sequence of a later part",
    "reverse_complement": "is the reverse complement of a sequence of a later part",
    "overlaps": "overlaps a sequence of a later part",
    "similar": "resembles a sequence of a later part",
    "conflict": "has a copy with another label",
    "repeat": "repeats an earlier sequence of its part",
    "left out": "was left out by the split",
}
"""Why a row goes, in words."""

_LEAST_LEFT = 0.5
_LINE = 80


@dataclass(frozen=True)
class Cleaning:
    """What a cleaned split keeps.

    Args:
        kept: Whether each row stays.
        reasons: For each row that goes: a key of `REASONS`, and the row that is to blame, or -1.
    """

    kept: Bool[np.ndarray, " n"]
    reasons: dict[int, tuple[str, int]]

    def text(self, records: LabelledSequences | LabelledIntervals, assignment: np.ndarray) -> str:
        """Say what goes and what is left, as lines for a terminal."""
        removed = Counter(reason for reason, _ in self.reasons.values())
        lines = [f"removed {len(self.reasons):,} of {len(records):,} rows"]
        lines += [f"  {removed[key]:>9,}  {words}" for key, words in REASONS.items() if removed[key]]
        labels = np.asarray(records.labels)
        for part in PARTS:
            inside = assignment == part
            if not inside.any():
                continue
            left = f"{int((inside & self.kept).sum()):,} of {int(inside.sum()):,}"
            lines.append(f"{part}: {left} rows stay" + (" (all)" if (inside <= self.kept).all() else ""))
            if records.task != "classification":
                continue
            for number, name in enumerate(records.classes):
                members = inside & (labels == number)
                if (members & self.kept).sum() < _LEAST_LEFT * members.sum():
                    lines.append(
                        f"  of class {name} only {int((members & self.kept).sum()):,} of "
                        f"{int(members.sum()):,}: a new split (--split chromosome) may keep more"
                    )
        return "\n".join(lines)


def clean(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, *, similarity: float = 0.5
) -> Cleaning:
    """Choose the rows that a sound split keeps; every row of the test part is among them.

    Args:
        records: The data set.
        assignment: Part of each row, str (n,); rows of no part are left out.
        similarity: Containment from which two sequences count as alike, in (0, 1].
    """
    reasons = {int(i): ("left out", -1) for i in np.flatnonzero(~np.isin(assignment, PARTS))}
    reasons |= given_away_by(records, assignment, similarity=similarity)
    twins = twins_of(records)
    may_go = np.isin(assignment, PARTS[:2])
    may_go[list(reasons)] = False
    _drop_conflicts(twins, np.asarray(records.labels), may_go, reasons)
    groups = twins.groups()
    for part in PARTS[:2]:
        inside = np.flatnonzero(may_go & (assignment == part))
        _, first, group = np.unique(groups[inside], return_index=True, return_inverse=True)
        for position in np.flatnonzero(first[group] != np.arange(len(inside))).tolist():
            reasons[int(inside[position])] = ("repeat", int(inside[first[group[position]]]))
    kept = np.ones(len(records), dtype=bool)
    kept[list(reasons)] = False
    return Cleaning(kept, dict(sorted(reasons.items())))


def _drop_conflicts(
    twins: Twins, labels: np.ndarray, may_go: np.ndarray, reasons: dict[int, tuple[str, int]]
) -> None:
    """Add the rows that have a copy with another label, in place: nobody knows which label is right."""
    candidates = np.flatnonzero(may_go)
    inside = Twins(twins.own[candidates], twins.other[candidates])
    for members in conflicting(inside, labels[candidates]):
        for member in members:
            to_blame = members[1] if member == members[0] else members[0]
            reasons[int(candidates[member])] = ("conflict", int(candidates[to_blame]))
            may_go[candidates[member]] = False


def write_clean(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, cleaning: Cleaning, folder: Path
) -> None:
    """Write a cleaned split, whole or not at all.

    The folder gets ``removed.tsv``, which says why each row went. Sequences become ``sequences.fa`` and
    ``labels.tsv`` (name, label, split), which every verb reads. Intervals of classes become
    ``<part>/<class>.csv.gz`` as they come (0-based, half-open).

    Args:
        records: The data set.
        assignment: Part of each row, str (n,).
        cleaning: What stays.
        folder: New or empty folder.

    Raises:
        UserError: If the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already", hint="name a new folder for the cleaned split")
    with atomic_folder(folder) as part:
        _write_removed(records, assignment, cleaning, part / "removed.tsv")
        if records.intervals and records.task == "classification":
            _write_intervals(records, assignment, cleaning.kept, part)
        if not isinstance(records, LabelledIntervals):
            _write_sequences(records, assignment, cleaning.kept, part)


def _write_removed(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, cleaning: Cleaning, path: Path
) -> None:
    with path.open("w", encoding="utf-8") as handle:
        handle.write("name\tsplit\tsource\treason\tbecause_of\tits_split\n")
        for i, (reason, j) in cleaning.reasons.items():
            cells = [records.names[i], str(assignment[i]), records.sources[i] if records.sources else ""]
            because = ("", "") if j < 0 else (records.names[j], str(assignment[j]))
            handle.write("\t".join([*cells, REASONS[reason], *because]) + "\n")


def _write_intervals(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray, kept: np.ndarray, folder: Path
) -> None:
    assert records.intervals is not None
    ids = records.ids if isinstance(records, LabelledIntervals) else records.names
    labels = np.asarray(records.labels)
    for part in PARTS:
        for number, name in enumerate(records.classes):
            rows = np.flatnonzero(kept & (assignment == part) & (labels == number)).tolist()
            if rows:
                file = re.sub(r"[^\w.+-]", "_", name) + ".csv.gz"
                write_intervals(
                    folder / part / file, [ids[i] for i in rows], [records.intervals[i] for i in rows]
                )


def _write_sequences(
    records: LabelledSequences, assignment: np.ndarray, kept: np.ndarray, folder: Path
) -> None:
    labels = np.asarray(records.labels)
    header = ["label"] if records.task == "classification" else list(records.classes)
    with (
        (folder / "sequences.fa").open("w", encoding="utf-8") as fasta,
        (folder / "labels.tsv").open("w", encoding="utf-8") as table,
    ):
        table.write("\t".join(["name", *header, "split"]) + "\n")
        for i in np.flatnonzero(kept).tolist():
            name = re.sub(r"\s", "_", records.names[i])
            letters = decode(records.tokens[i])
            place = records.intervals[i] if records.intervals else None
            known = place is None or parse_header(name, len(letters)) == place
            fasta.write(f">{name}\n" if known else f">{name} {place}\n")
            fasta.writelines(f"{letters[start : start + _LINE]}\n" for start in range(0, len(letters), _LINE))
            if records.task == "classification":
                cells = [records.classes[labels[i]]]
            else:
                cells = [f"{value:.9g}" for value in labels[i].tolist()]
            table.write("\t".join([name, *cells, str(assignment[i])]) + "\n")
