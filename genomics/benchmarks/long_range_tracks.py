"""The regression and multi-label tasks of the genomics long-range benchmark: expression, chromatin, CAGE.

Positions are 1-based in the files and 0-based inside. Expression and chromatin features lie on hg19, CAGE on
hg38.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from genomics.alphabet import TokenArray, reverse_complement
from genomics.benchmarks.benchmark import Benchmark
from genomics.benchmarks.long_range import PAPER, RELEASE, WINDOW, centred
from genomics.benchmarks.tables import Row, read_rows
from genomics.datasets.records import LabelledSequences, Task, TokenStore, normalise_part
from genomics.fasta import Fasta
from genomics.files import decode_text, read_lines
from genomics.intervals import Interval
from seqmamba.errors import UserError
from seqmamba.paths import expand

CAGE_BIN = 128
"""Bases of a bin of CAGE targets."""

_INDEX_NAMES = {"", "unnamed: 0", "index"}
_TARGETS = re.compile(r"targets-(?P<part>[a-z]+)-(?P<first>\d+)-(?P<last>\d+)\.npz")


def read_expression(source: str | Path, genome: str | Path, length: int) -> LabelledSequences:
    """Read bulk RNA expression: a window around each gene's transcription start, regression of every tissue.

    Genes of the minus strand are read as reverse complements. Those whose window leaves the chromosome are
    left out, as published.

    Args:
        source: Folder ``bulk_rna_expression`` of the release, or the one that holds it.
        genome: FASTA file of hg19.
        length: Bases of a window.

    Raises:
        UserError: With file and line, for anything missing or wrong.
    """
    folder = _folder(expand(source), "bulk_rna_expression", "gene_coordinates.csv")
    columns = {
        "chrom": ("chrom", "CHROM"),
        "position": ("CAGE_representative_TSS",),
        "strand": ("strand",),
        "split": ("split",),
    }
    genes = list(read_rows(folder / "gene_coordinates.csv", columns))
    names, values = _matrix(folder / "rna_expression_values.csv")
    if len(values) != len(genes):
        raise UserError(
            f"{folder}: gene_coordinates.csv has {len(genes)} rows, rna_expression_values.csv {len(values)}"
        )
    fasta = Fasta(expand(genome))

    def window(row: Row) -> TokenArray | None:
        tokens = centred(fasta, row["chrom"], row.integer("position") - 1, length)
        return reverse_complement(tokens) if tokens is not None and row["strand"] == "-" else tokens

    return _windows(genes, window, values, names, "regression")


def read_chromatin(source: str | Path, genome: str | Path, length: int) -> LabelledSequences:
    """Read chromatin features: histone marks and DNase hypersensitivity of a window, multi-label.

    Args:
        source: Folder ``chromatin_features`` of the release, or the one that holds it.
        genome: FASTA file of hg19.
        length: Bases of a window.

    Raises:
        UserError: With file and line, for anything missing or wrong.
    """
    name = "histones_and_dnase.csv"
    parent = expand(source)
    try:
        folder = _folder(parent, "chromatin_features", name)
    except UserError:
        name = "histones_and_dnase_subset.csv"
        folder = _folder(parent, "chromatin_features", name)
    columns = {
        "chrom": ("CHROM",),
        "position": ("POS",),
        "histones": ("HISTONES",),
        "dnase": ("DNASE",),
        "split": ("split",),
    }
    rows = list(read_rows(folder / name, columns))
    lists = [(_zeros_and_ones(row, "histones"), _zeros_and_ones(row, "dnase")) for row in rows]
    widths = {(len(histones), len(dnase)) for histones, dnase in lists}
    if len(widths) != 1:
        raise UserError(f"{folder / name}: rows have different numbers of labels: {sorted(widths)}")
    marks, sites = widths.pop()
    names = [f"histone_{i}" for i in range(marks)] + [f"dnase_{i}" for i in range(sites)]
    values = np.array([histones + dnase for histones, dnase in lists], dtype=np.float32)
    fasta = Fasta(expand(genome))
    return _windows(
        rows,
        lambda row: centred(fasta, row["chrom"], row.integer("position") - 1, length),
        values,
        names,
        "multilabel",
    )


@dataclass(frozen=True)
class CageWindow:
    """One window of the CAGE task.

    Attributes:
        interval: Its place on hg38, 0-based and half-open.
        part: "train", "validation" or "test".
        targets: Coverage of every bin and track, (bins, tracks); bins are `CAGE_BIN` bases.
    """

    interval: Interval
    part: str
    targets: Float[np.ndarray, "bins tracks"]


def read_cage(source: str | Path) -> Iterator[CageWindow]:
    """Read CAGE prediction, window after window, with the targets of one archive in memory.

    Args:
        source: Folder ``cage_prediction`` of the release, or the one that holds it.

    Raises:
        UserError: With file and line, for coordinates or targets that are missing or do not fit.
    """
    folder = _folder(expand(source), "cage_prediction", "sequences_coordinates.csv")
    columns = {name: (name,) for name in ("chrom", "start", "stop", "split", "npy_idx")}
    archives: dict[str, list[tuple[int, int, Path]]] = {}
    for path in sorted(folder.glob("targets_subset/targets-*.npz")):
        match = _TARGETS.fullmatch(path.name)
        if match:
            place = (int(match["first"]), int(match["last"]), path)
            archives.setdefault(match["part"], []).append(place)
    if not archives:
        raise UserError(f"{folder}: has no targets_subset/targets-<part>-<first>-<last>.npz")
    opened: tuple[Path | None, dict[str, np.ndarray]] = (None, {})
    for row in read_rows(folder / "sequences_coordinates.csv", columns):
        number = row.integer("npy_idx")
        found = [path for first, last, path in archives.get(row["split"], ()) if first <= number <= last]
        if not found:
            continue  # the release has the targets of a part of its windows only
        if opened[0] != found[0]:
            with np.load(found[0], allow_pickle=False) as archive:
                opened = (found[0], dict(archive))
        key = f"target-{row['split']}-{number}.npy"
        targets = opened[1].get(key, opened[1].get(key.removesuffix(".npy")))
        if targets is None:
            raise UserError(f"{row.where}: {found[0].name} holds no {key}")
        interval = row.interval(row["chrom"], row.integer("start") - 1, row.integer("stop"))
        yield CageWindow(interval, normalise_part(row["split"], row.where), np.asarray(targets, np.float32))


def _windows(
    rows: list[Row],
    window: Callable[[Row], TokenArray | None],
    values: np.ndarray,
    names: list[str],
    task: Task,
) -> LabelledSequences:
    found = [(i, tokens) for i, row in enumerate(rows) if (tokens := window(row)) is not None]
    if not found:
        raise UserError(f"{rows[0].where if rows else 'the table'}: no window lies inside its chromosome")
    kept = np.array([i for i, _ in found])
    left_out = len(rows) - len(kept)
    return LabelledSequences(
        names=[f"row_{i:06d}" for i in kept.tolist()],
        tokens=TokenStore.from_arrays([tokens for _, tokens in found]),
        labels=values[kept],
        classes=tuple(names),
        task=task,
        split=np.array([normalise_part(rows[i]["split"], rows[i].where) for i in kept.tolist()]),
        sources=[rows[i].where for i in kept.tolist()],
        notes=(f"left out {left_out} windows that leave their chromosome",) if left_out else (),
    )


def _folder(source: Path, name: str, file: str) -> Path:
    for folder in (source / name, source):
        if (folder / file).is_file():
            return folder
    raise UserError(f"{source}: has no {name}/{file}", hint="give the folder of the release")


def _matrix(path: Path) -> tuple[list[str], Float[np.ndarray, "rows columns"]]:
    """Read a table of numbers with a line of names; a first column without a name is an index."""
    names: list[str] = []
    rows: list[list[float]] = []
    skipped = 0
    for number, line in read_lines(path):
        cells = next(csv.reader([decode_text(line)]))
        if not names:
            skipped = int(cells[0].strip().lower() in _INDEX_NAMES)
            names = [cell.strip() for cell in cells[skipped:]]
            continue
        try:
            rows.append([float(cell) for cell in cells[skipped:]])
        except ValueError as error:
            raise UserError(f"{path}:{number}: expected numbers, got {error}") from None
        if len(rows[-1]) != len(names) or not np.isfinite(rows[-1]).all():
            raise UserError(f"{path}:{number}: expected {len(names)} finite numbers")
    if not rows:
        raise UserError(f"{path}: holds no row below its header")
    return names, np.array(rows, dtype=np.float32)


def _zeros_and_ones(row: Row, name: str) -> list[int]:
    try:
        values = ast.literal_eval(row[name])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = None
    if not isinstance(values, list) or any(value not in (0, 1) for value in values):
        raise UserError(f"{row.where}: {name}: expected a list of zeros and ones, got {row[name][:40]!r}")
    return [int(value) for value in values]


def _expression(
    source: Path, task: str, genome: str | Path | None, length: int = WINDOW
) -> LabelledSequences:
    return read_expression(source, _one_genome(source, genome), length)


def _chromatin(source: Path, task: str, genome: str | Path | None, length: int = WINDOW) -> LabelledSequences:
    return read_chromatin(source, _one_genome(source, genome), length)


def _one_genome(source: Path, genome: str | Path | None) -> str | Path:
    if not isinstance(genome, str | Path):
        raise UserError(f"{source}: holds coordinates, so --genome, one FASTA file of hg19, is needed")
    return genome


BENCHMARKS = tuple(
    Benchmark(f"long_range/{task}", reader, metric, PAPER, on_genome=True, windowed=True, release=RELEASE)
    for task, reader, metric in (("expression", _expression, "r2"), ("chromatin", _chromatin, "auroc"))
)
"""The tasks of windows with many values: expression by tissue, chromatin features."""
