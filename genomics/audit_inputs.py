"""Data sets that come as files of training, validation and test: FASTA or intervals, a file a class.

A folder holds ``train/``, ``test/`` and perhaps ``validation/`` (in any of their usual spellings), each with
one file a class, as Genomic Benchmarks (Gresova et al. 2023) has them; or the files themselves, without
parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genomics.coordinates import Coordinates
from genomics.datasets.bed import classes_of_column_4
from genomics.datasets.class_fastas import PathOrPaths, as_paths, from_class_fastas
from genomics.datasets.headers import from_headers
from genomics.datasets.records import PART_NAMES, LabelledSequences, TokenStore, normalise_part, unique_names
from genomics.interval_sets import LabelledIntervals, is_table, read_interval_sets, with_sequences
from genomics.intervals import read_bed
from seqmamba.errors import UserError

_FASTA = (".fa", ".fasta", ".fna", ".ffn", ".fas")
_BED = (".bed", ".narrowpeak", ".broadpeak")
_TABLE = (".csv", ".tsv")
Classes = Mapping[str, PathOrPaths]


def folder_parts(folder: Path) -> dict[str | None, dict[str, PathOrPaths]]:
    """Find the files of a data set in a folder.

    Returns:
        Part to class name to file, classes in the order of their names; the part is None where the folder
        has no parts.

    Raises:
        UserError: If the folder holds no data set.
    """
    parts: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name.lower() in PART_NAMES:
            part = normalise_part(path.name, str(folder))
            if part in parts:
                raise UserError(f"{folder}: {parts[part].name} and {path.name} are both the {part} part")
            parts[part] = path
    order = ["train", "validation", "test"]
    return {
        part: _class_files(parts[part]) for part in sorted(parts, key=lambda part: order.index(str(part)))
    } or {None: _class_files(folder)}


def _class_files(folder: Path) -> dict[str, PathOrPaths]:
    """Return the files of a folder by the class that they are named after."""
    files: dict[str, PathOrPaths] = {}
    for path in sorted(folder.iterdir()):
        if _kind(path) is None:
            continue
        if _stem(path) in files:
            raise UserError(f"{folder}: two files are called {_stem(path)!r}, the name of a class")
        files[_stem(path)] = path
    if not files:
        raise UserError(
            f"{folder}: holds no FASTA file and no file of intervals",
            hint="one file a class, for example train/positive.csv.gz or train/positive.fa",
        )
    return files


def read_parts(
    parts: Mapping[str | None, Classes], genome: str | Path | None = None
) -> LabelledSequences | LabelledIntervals:
    """Read a data set that comes as files of its parts.

    A part of one FASTA file that goes by no class name has its labels in its headers, ``>name|label``.

    Args:
        parts: Part ("train", "validation", "test"; None where there are none) to class name to file or files.
        genome: FASTA file of the genome that files of intervals lie on; without it, only coordinates are
            known.

    Raises:
        UserError: If files of sequences and of intervals are mixed, or anything is wrong in one.
    """
    paths = [path for files in parts.values() for some in files.values() for path in as_paths(some)]
    kinds = {are_intervals(path): path for path in paths}
    if len(kinds) > 1:
        raise UserError(
            f"expected files of one kind, got intervals ({kinds[True]}) and sequences ({kinds[False]})"
        )
    if True in kinds:
        alone = len(paths) == 1 and not is_table(paths[0])
        intervals = _one_bed(paths[0], next(iter(parts))) if alone else read_interval_sets(parts)
        return intervals if genome is None else with_sequences(intervals, genome)
    if genome is not None:
        raise UserError("a genome is only used with intervals, but the files hold sequences")
    return _joined({part: _sequences(files) for part, files in parts.items()})


def are_intervals(path: str | Path) -> bool:
    """Say whether a file is named as one of intervals: a table, BED, narrowPeak or broadPeak."""
    return _kind(Path(path)) in _BED + _TABLE


def _kind(path: Path) -> str | None:
    """Return the ending that says what a file holds, or None for other files."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".bgz")
    return next((suffix for suffix in _FASTA + _BED + _TABLE if name.endswith(suffix)), None)


def _stem(path: Path) -> str:
    return path.name[: path.name.lower().rindex(str(_kind(path)))]


def _one_bed(path: Path, part: str | None) -> LabelledIntervals:
    """Read a single BED file, whose column 4 names the classes where its values repeat."""
    rows = list(read_bed(path))
    sources = [f"{path}:{row.line}" for row in rows]
    words = classes_of_column_4(rows, sources)
    classes = tuple(sorted(set(words)))
    places = Coordinates.of([row.interval for row in rows])
    return LabelledIntervals(
        ids=[row.name or str(row.interval) for row in rows],
        places=places,
        labels=np.array([classes.index(word) for word in words], dtype=np.int64),
        classes=classes,
        split=None if part is None else np.array([part] * len(rows)),
        sources=sources,
    )


def _sequences(files: Classes) -> LabelledSequences:
    paths = [path for some in files.values() for path in as_paths(some)]
    if len(paths) == 1:
        return from_headers(paths)
    return from_class_fastas(files)


def _joined(parts: Mapping[str | None, LabelledSequences]) -> LabelledSequences:
    """Put the parts of a data set one after the other."""
    if None in parts:
        return parts[None]
    some = list(parts.values())
    classes = tuple(dict.fromkeys(name for records in some for name in records.classes))
    number = {name: i for i, name in enumerate(classes)}
    split = [str(part) for part, records in parts.items() for _ in records.names]
    sources = [source for records in some for source in records.sources]
    names = unique_names([name for records in some for name in records.names], split)
    intervals = [place for records in some for place in records.intervals or []]
    return LabelledSequences(
        names=unique_names(names, sources),
        tokens=TokenStore.from_arrays([tokens for records in some for tokens in records.tokens]),
        labels=np.concatenate(
            [np.array([number[name] for name in records.classes])[records.labels] for records in some]
        ),
        classes=classes,
        task="classification",
        intervals=intervals if len(intervals) == len(split) else None,
        split=np.array(split),
        sources=sources,
        notes=tuple(note for records in some for note in records.notes),
    )
