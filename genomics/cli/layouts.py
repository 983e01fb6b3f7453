"""The command-line options that name labelled sequences, shared by the verbs that read them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmamba.errors import UserError

_SUFFIXES = frozenset(
    (
        *(".gz", ".bgz", ".fa", ".fasta", ".fna", ".ffn", ".fas", ".txt", ".csv", ".tsv"),
        *(".bed", ".narrowPeak", ".broadPeak"),
    )
)


def add_layout_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three ways to name labelled sequences.

    Args:
        parser: The verb's parser.
    """
    group = parser.add_argument_group("data (one of these layouts)")
    group.add_argument(
        "files",
        nargs="*",
        metavar="FASTA",
        help="one FASTA file a class, the positive one first; NAME=FILE names the class, else the file does",
    )
    group.add_argument(
        "--fasta", nargs="+", metavar="FASTA", help="FASTA with --labels, or with headers >name|label[|split]"
    )
    group.add_argument(
        "--labels", metavar="TSV", help="table of name, label(s) and optionally split, for --fasta"
    )
    group.add_argument(
        "--bed",
        nargs="+",
        metavar="BED",
        help="intervals on --genome: one file a class, or classes in column 4; a single class gets matched "
        "background from the genome",
    )
    group.add_argument("--genome", metavar="FASTA", help="genome that --bed lies on")
    group.add_argument(
        "--task",
        choices=("auto", "classification", "multilabel", "regression"),
        default="auto",
        help="what the labels mean (default: guessed from them)",
    )


def layout(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `SequenceDataModule` that the options stand for, with absolute paths.

    Args:
        args: Parsed options of `add_layout_arguments`.

    Returns:
        ``fasta`` and perhaps ``labels``, or ``bed`` and ``genome``; and ``task`` where it is given.

    Raises:
        UserError: If the options do not name exactly one layout.
    """
    given = [
        name
        for name, value in (("FASTA files", args.files), ("--fasta", args.fasta), ("--bed", args.bed))
        if value
    ]
    if len(given) != 1:
        raise UserError(
            f"expected one layout of data, got {' and '.join(given) or 'none'}",
            hint="POS.fa NEG.fa, or --fasta X.fa --labels Y.tsv, or --bed P.bed --genome G.fa",
        )
    chosen: dict[str, Any] = {}
    if args.bed:
        chosen["bed"] = _absolute(args.bed) if len(args.bed) == 1 else by_class(args.bed)
        if not args.genome:
            raise UserError("--bed needs --genome, the FASTA file that the intervals lie on")
        chosen["genome"] = _absolute([args.genome])
    elif args.fasta or len(args.files) == 1:
        chosen["fasta"] = _absolute(args.fasta or args.files)
        if args.labels:
            chosen["labels"] = _absolute([args.labels])
    else:
        if args.labels:
            raise UserError("--labels goes with --fasta; several FASTA files name their classes themselves")
        chosen["fasta"] = by_class(args.files)
    if args.genome and not args.bed:
        raise UserError("--genome goes with --bed")
    if args.task != "auto":
        chosen["task"] = args.task
    return chosen


def by_class(words: Sequence[str]) -> dict[str, str | list[str]]:
    """Group files by class, with absolute paths.

    Of two classes the data module takes the second for the positive one, so the first file named comes last.

    Args:
        words: ``FILE``, whose name is the class, or ``NAME=FILE``.

    Raises:
        UserError: If two files without a class have the same name.
    """
    classes: dict[str, list[str]] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator:
            name, path = _stem(word), word
        elif not name or not path:
            raise UserError(f"{word!r}: expected NAME=FILE")
        elif name in classes:
            classes[name].append(str(_path(path)))
            continue
        if name in classes:
            raise UserError(
                f"two files are called {name!r}: {classes[name][0]} and {path}",
                hint="name their classes: positive=FILE negative=FILE",
            )
        classes[name] = [str(_path(path))]
    names = list(classes)
    if len(names) == 2:
        names.reverse()
    return {name: classes[name][0] if len(classes[name]) == 1 else classes[name] for name in names}


def _stem(path: str) -> str:
    name = Path(path)
    while name.suffix in _SUFFIXES and name.stem:
        name = name.with_suffix("")
    return name.name


def _absolute(paths: Sequence[str]) -> str | list[str]:
    resolved = [str(_path(path)) for path in paths]
    return resolved[0] if len(resolved) == 1 else resolved


def _path(path: str) -> Path:
    return Path(path).expanduser().absolute()
