"""Writing the FASTA and label files of prepared DNA sets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def write_fasta(path: Path, records: Iterable[tuple[str, str]]) -> int:
    """Write (name, letters) records, one line of sequence each, in upper case.

    Returns:
        The number of records.
    """
    count = 0
    with path.open("w", encoding="ascii", newline="\n") as out:
        for name, letters in records:
            out.write(f">{name}\n{letters.upper()}\n")
            count += 1
    return count


def write_labels(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write (name, label, split) rows as a table with a header, separated by tabs."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write("name\tlabel\tsplit\n")
        out.writelines("\t".join(row) + "\n" for row in rows)
