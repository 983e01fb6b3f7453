"""GUE (Zhou et al. 2023, DNABERT-2, arXiv:2306.15006): ``<group>/<task>/{train,dev,test}.csv``.

Each file has the columns ``sequence`` and ``label``. The three files are the official split: models are
chosen on ``dev`` and scored on ``test`` by the Matthews correlation coefficient (``covid``: by F1), times 100
in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genomics.benchmarks.benchmark import Benchmark, PaperSettings
from genomics.benchmarks.examples import Example, collect, tokens_of
from genomics.benchmarks.tables import read_rows
from genomics.datasets.records import LabelledSequences
from seqmamba.errors import UserError

FILES = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
"""Part -> file."""

_PROMOTERS = ("prom_300_all", "prom_300_notata", "prom_300_tata")
_CORE = ("prom_core_all", "prom_core_notata", "prom_core_tata")
_MARKS = ["H3", "H3K14ac", "H3K36me3", "H3K4me1", "H3K4me2", "H3K4me3", "H3K79me3", "H3K9ac", "H4", "H4ac"]

TASKS = {
    **{name: f"prom/{name}" for name in (*_PROMOTERS, *_CORE)},
    **{f"mouse{i}": f"mouse/{i}" for i in range(5)},
    **{f"tf{i}": f"tf/{i}" for i in range(5)},
    **{mark: f"EMP/{mark}" for mark in _MARKS},
    "splice": "splice/reconstructed",
    "covid": "virus/covid",
}
"""Task -> its folder in the release."""


def read_gue(source: Path, task: str) -> LabelledSequences:
    """Read a task.

    Args:
        source: The folder ``GUE``, one that holds it, or the folder of this task.
        task: A key of `TASKS`.

    Raises:
        UserError: With file and line, for files that are missing or not in this layout.
    """
    places = [source / TASKS[task], source / "GUE" / TASKS[task], source]
    folder = next((place for place in places if (place / FILES["train"]).is_file()), None)
    if folder is None:
        raise UserError(
            f"{source}: has neither {TASKS[task]}/train.csv nor train.csv",
            hint="give the folder GUE of the release, or the folder of this task",
        )
    return collect(_examples(folder), f"{folder}")


def _examples(folder: Path) -> Iterator[Example]:
    for part, file in FILES.items():
        rows = read_rows(folder / file, {"sequence": ("sequence",), "label": ("label",)})
        for number, row in enumerate(rows):
            tokens = tokens_of(row["sequence"], row.where)
            yield Example(f"{part}_{number:06d}", tokens, row["label"], part, row.where)


_PAPER = PaperSettings(
    "DNABERT-2 (Zhou et al. 2023, arXiv:2306.15006): split, metric and choice on dev; the training is ours",
    validation="given",
    seeds=(42,),
    batch_size=32,
)

BENCHMARKS = tuple(
    Benchmark(f"gue/{task}", read_gue, "f1" if task == "covid" else "mcc", _PAPER) for task in TASKS
)
"""All 28 tasks of GUE."""
