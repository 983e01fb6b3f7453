"""Downstream tasks of the Nucleotide Transformer (Dalla-Torre et al. 2023, doi:10.1101/2023.01.11.523679).

Two releases that share names but not data, so that numbers of one are no yardstick for the other:

* the first, 18 tasks (histone marks of yeast), as ``<task>/{train,test}.fna`` with headers ``>name|label``;
* ``revised``, 18 tasks (histone marks of human K562 cells), in the same layout or as Parquet files with the
  columns ``sequence``, ``name``, ``label`` and ``task``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from genomics.benchmarks.benchmark import Benchmark, PaperSettings
from genomics.benchmarks.examples import Example, collect, tokens_of
from genomics.datasets.records import LabelledSequences
from genomics.fasta import read_fasta
from genomics.intervals import parse_header
from seqmamba.errors import UserError

PARTS = ("train", "test")
_COLUMNS = ("sequence", "name", "label", "task")


def read_nucleotide_transformer(source: Path, task: str) -> LabelledSequences:
    """Read a task of either release from a local copy of it.

    Args:
        source: Folder with ``<task>/{train,test}.fna`` (``.gz`` too), that task's folder, or a folder with
            ``train*.parquet`` and ``test*.parquet``, also below ``data``.
        task: Name of the task.

    Raises:
        UserError: With file and line, for files that are missing or not in this layout.
    """
    for folder in (source / task, source):
        files = {part: _fasta(folder, part) for part in PARTS}
        if all(files.values()):
            return collect(_from_fasta(files), str(folder))
    for folder in (source, source / "data", source / task):
        tables = {part: sorted(folder.glob(f"{part}*.parquet")) for part in PARTS}
        if all(tables.values()):
            return collect(_from_parquet(tables, task), f"{folder} ({task})")
    raise UserError(
        f"{source}: has neither {task}/train.fna and {task}/test.fna nor Parquet files of them",
        hint="give the folder of the release",
    )


def _fasta(folder: Path, part: str) -> Path | None:
    return next((path for end in ("", ".gz") if (path := folder / f"{part}.fna{end}").is_file()), None)


def _from_fasta(files: dict[str, Path | None]) -> Iterator[Example]:
    for part, path in files.items():
        assert path is not None
        for record in read_fasta(path, unique_names=False):
            where = f"{path}:{record.line}"
            name, bar, label = record.header.rpartition("|")
            if not bar or not name.strip() or not label.strip():
                raise UserError(f"{where}: expected '>name|label', got {record.header!r}")
            interval = parse_header(name, len(record.sequence))
            tokens = tokens_of(record.sequence, where)
            yield Example(name.split()[0], tokens, label.strip(), part, where, interval)


def _from_parquet(tables: dict[str, list[Path]], task: str) -> Iterator[Example]:
    for part, paths in tables.items():
        for path in paths:
            yield from _rows(path, part, task)


def _rows(path: Path, part: str, task: str) -> Iterator[Example]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise UserError(f"{path}: has no column {missing[0]!r}")
            number = 0
            for batch in file.iter_batches(columns=list(_COLUMNS)):
                for row in batch.to_pylist():
                    number += 1
                    if row["task"] == task:
                        where = f"{path}: row {number}"
                        tokens = tokens_of(str(row["sequence"] or ""), where)
                        yield Example(str(row["name"]), tokens, str(row["label"]), part, where)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: is no readable Parquet file ({error})") from None


_MARKS = ("H3", "H3K14ac", "H3K36me3", "H3K4me1", "H3K4me2", "H3K4me3", "H3K79me3", "H3K9ac", "H4", "H4ac")
_REVISED_MARKS = (
    *("H2AFZ", "H3K27ac", "H3K27me3", "H3K36me3", "H3K4me1"),
    *("H3K4me2", "H3K4me3", "H3K9ac", "H3K9me3", "H4K20me1"),
)
_OTHERS = {
    "enhancers": "mcc",
    "enhancers_types": "mcc",
    "promoter_all": "f1",
    "promoter_no_tata": "f1",
    "promoter_tata": "f1",
    "splice_sites_all": "accuracy",
    "splice_sites_acceptors": "f1",
    "splice_sites_donors": "f1",
}
_LARGE_BATCHES = ["H3K4me2", "H3K4me3", "enhancers", "enhancers_types", "promoter_tata", "splice_sites_all"]


def _paper(task: str) -> PaperSettings:
    return PaperSettings(
        "Caduceus (Schiff et al. 2024, arXiv:2403.03234), appendix D.2, settings of Caduceus-PS",
        validation="sklearn_tenth",
        seeds=tuple(range(1, 11)),
        epochs=20,
        batch_size=512 if task in _LARGE_BATCHES else 128,
        lr=2e-3 if task == "enhancers_types" else 1e-3,
    )


_REPOSITORIES = {
    "nucleotide_transformer": "nucleotide_transformer_downstream_tasks",
    "nucleotide_transformer_revised": "nucleotide_transformer_downstream_tasks_revised",
}

BENCHMARKS = tuple(
    Benchmark(
        f"{family}/{task}",
        read_nucleotide_transformer,
        metric,
        _paper(task),
        release=f"huggingface.co/datasets/InstaDeepAI/{_REPOSITORIES[family]}",
    )
    for family, marks in (
        ("nucleotide_transformer", _MARKS),
        ("nucleotide_transformer_revised", _REVISED_MARKS),
    )
    for task, metric in {**dict.fromkeys(marks, "mcc"), **_OTHERS}.items()
)
"""18 tasks of the first release and 18 of the revised one."""
