"""``seqmamba genomics audit``: what is wrong with a data set before anything is trained on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genomics.cli.layouts import add_layout_arguments, by_class, layout
from seqmamba.cli.arguments import add_again
from seqmamba.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from genomics.datasets.module import SequenceDataModule
    from genomics.datasets.records import LabelledSequences
    from genomics.interval_sets import LabelledIntervals

HELP = "look for duplicates, leaks and shortcuts in labelled sequences or intervals"

_EPILOG = """
Instead of FASTA files, a recipe (.yaml) can be given, whose data section is read; or a folder with train/
and test/, each with one file a class, FASTA or intervals (BED, or csv.gz with region, start, end and strand,
as in Genomic Benchmarks). Coordinates are 0-based and half-open. Intervals are audited with --genome or
without.
"""
_RECIPE_SUFFIXES = (".yaml", ".yml")
_PARTS = ("train", "validation", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_layout_arguments(parser)
    parser.epilog = _EPILOG
    group = parser.add_argument_group("data in parts (instead)")
    for part in _PARTS:
        group.add_argument(
            f"--{part}",
            nargs="+",
            metavar="FILE",
            help=f"files of the {part} part: one a class (NAME=FILE names it), or one FASTA of >name|label",
        )
    parser.add_argument(
        "--split",
        default="auto",
        help="auto, column, chromosome, block, similarity or random (default: auto, which takes a split that "
        "the data come with)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON, too")
    add_again(parser, "what --json names", resumes=False)
    parser.add_argument(
        "--clean",
        type=Path,
        metavar="FOLDER",
        help="write a split without copies and without training rows that give a test row away; the test "
        "part stays as it is, and removed.tsv says what went",
    )


def run(args: argparse.Namespace) -> int | None:
    """Print the findings; the status is 0 whatever they are."""
    import json

    from genomics.audit import audit
    from seqmamba.atomic import atomic_path
    from seqmamba.finished import require_new
    from seqmamba.plain_json import to_json

    require_new(args.json, overwrite=args.overwrite)
    if args.clean and args.clean.exists():
        raise UserError(f"--clean {args.clean}: exists already", hint="name a new folder")
    records, assignment = _read(args)
    report = audit(records, assignment)
    print(report.text())
    if args.json:
        with atomic_path(args.json) as part:
            text = json.dumps(to_json(report.as_dict()), indent=1, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
    if args.clean:
        _clean(records, assignment, args.clean)
    return 0


def _clean(
    records: LabelledSequences | LabelledIntervals, assignment: np.ndarray | None, folder: Path
) -> None:
    """Write the cleaned split, and check it."""
    import numpy as np

    from genomics.cleaning import clean, write_clean
    from genomics.leaks import check_leaks

    if assignment is None:
        raise UserError("--clean: the data have no split", hint="choose one with --split")
    cleaning = clean(records, assignment)
    write_clean(records, assignment, cleaning, folder)
    left = check_leaks(records, np.where(cleaning.kept, assignment, ""))
    print(f"\ncleaned split in {folder}:\n{cleaning.text(records, assignment)}\n{left.summary()}")


def _read(args: argparse.Namespace) -> tuple[LabelledSequences | LabelledIntervals, np.ndarray | None]:
    """Return the data set, and the part of each row."""
    from genomics.audit_inputs import are_intervals, folder_parts, read_parts

    given: dict[str | None, Any] = {
        part: by_class(getattr(args, part)) for part in _PARTS if getattr(args, part)
    }
    if given:
        if args.files or args.fasta or args.bed:
            raise UserError("--train, --validation and --test go with no other files")
        return _split(read_parts(given, args.genome), args.split)
    if len(args.files) == 1 and Path(args.files[0]).expanduser().is_dir():
        return _split(read_parts(folder_parts(Path(args.files[0]).expanduser()), args.genome), args.split)
    words = args.files or (args.bed if not args.genome else None)
    if words and not args.fasta and all(are_intervals(word) for word in words):
        return _split(read_parts({None: by_class(words)}, args.genome), args.split)
    if len(args.files) == 1 and args.files[0].endswith(_RECIPE_SUFFIXES):
        data = _recipe_data(Path(args.files[0]).expanduser())
    else:
        data = _layout_data(args)
    data.setup()
    return data.records, data.assignment


def _split(
    records: LabelledSequences | LabelledIntervals, by: Any
) -> tuple[LabelledSequences | LabelledIntervals, np.ndarray | None]:
    """Take the split as it comes, validation part or not; else make one."""
    from genomics.splits import SplitConfig, assign

    if records.split is not None and by in ("auto", "column"):
        return records, records.split
    return records, assign(records, SplitConfig(by=by))[0]


def _layout_data(args: argparse.Namespace) -> SequenceDataModule:
    """Build the data module that the options describe; it brings Lightning, which intervals do not need."""
    from genomics.datasets.module import SequenceDataModule
    from genomics.splits import SplitConfig

    return SequenceDataModule(**layout(args), split=SplitConfig(by=args.split))


def _recipe_data(path: Path) -> SequenceDataModule:
    """Build the data module that a recipe describes."""
    import yaml

    from genomics.datasets.module import SequenceDataModule
    from genomics.splits import SplitConfig

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        options = dict(content["data"]["init_args"])
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint="give FASTA files or a recipe") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected a recipe with data.init_args, got {error}") from None
    try:
        options["split"] = SplitConfig(**(options.get("split") or {}))
        return SequenceDataModule(**options)
    except TypeError as error:
        raise UserError(f"{path}: data.init_args: {error}") from None
