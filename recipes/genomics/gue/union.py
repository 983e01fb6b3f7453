"""Write the training sequences of GUE's tasks, unlabelled, for pretraining on all of them.

python -m recipes.genomics.gue.union [--data FOLDER] [-o FOLDER] [--tasks TASK...]

FOLDER/union.fa has one record a task, its sequences end to end with an N between them; FOLDER/union.bed has
where they lie (0-based, half-open). Every fiftieth one validates. Sequences of the official dev and test
parts are left out, and so are the copies that any other task has of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genomics.alphabet import decode
from genomics.benchmarks import find_benchmark
from genomics.datasets.records import LabelledSequences, TokenStore
from genomics.similarity import canonical_groups
from recipes.genomics.writing import write_fasta
from seqmamba.errors import UserError
from seqmamba.paths import data_dir

TASKS = (
    "prom_core_all",
    "prom_300_tata",
    *(f"mouse{i}" for i in (0, 2, 3, 4)),
    *(f"tf{i}" for i in range(5)),
)
"""What the recipe fetches, less tasks that are part of another one."""

_VALIDATION_EVERY = 50


def write_union(sets: dict[str, LabelledSequences], folder: Path) -> dict[str, int]:
    """Write the two files.

    Args:
        sets: Task to its sequences, with their official part.
        folder: Where.

    Returns:
        Task to the number of its sequences that were written.
    """
    everything = TokenStore.from_arrays([tokens for records in sets.values() for tokens in records.tokens])
    parts = np.concatenate([records.split for records in sets.values()])
    groups = canonical_groups(everything)
    free = ~np.isin(groups, groups[parts != "train"])
    folder.mkdir(parents=True, exist_ok=True)
    records, rows, counts, first = [], [], {}, 0
    for task, members in sets.items():
        chosen = first + np.flatnonzero(free[first : first + len(members)])
        first += len(members)
        letters, start = [decode(everything[i]) for i in chosen.tolist()], 0
        for number, sequence in enumerate(letters):
            part = "valid" if number % _VALIDATION_EVERY == 0 else "train"
            rows.append(f"{task}\t{start}\t{start + len(sequence)}\t{part}\n")
            start += len(sequence) + 1
        records.append((task, "N".join(letters)))
        counts[task] = len(letters)
    write_fasta(folder / "union.fa", records)
    (folder / "union.bed").write_text("".join(rows), encoding="ascii")
    return counts


def main(words: Sequence[str] | None = None) -> None:
    """Write the files and say how many sequences each task gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="copy of the release (default: what `prepare` fetched)")
    parser.add_argument("-o", "--output", type=Path, help="folder (default: gue in the data folder)")
    parser.add_argument(
        "--tasks", nargs="+", default=TASKS, metavar="TASK", help="default: all that the recipe fetches"
    )
    args = parser.parse_args(words)
    try:
        sets = {task: find_benchmark(f"gue/{task}").read(args.data) for task in args.tasks}
        counts = write_union(sets, args.output or data_dir() / "gue")
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None
    for task, count in counts.items():
        print(f"{task:15} {count:7,}")


if __name__ == "__main__":
    main()
