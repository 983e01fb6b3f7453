"""``seqmamba genomics audit``: what is wrong with a data set before anything is trained on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genomics.cli.layouts import add_layout_arguments, layout
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from genomics.datasets.module import SequenceDataModule

HELP = "look for duplicates, leaks and shortcuts in labelled sequences"

_RECIPE_SUFFIXES = (".yaml", ".yml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_layout_arguments(parser)
    parser.epilog = "Instead of FASTA files, one recipe (.yaml) can be given; its data section is read."
    parser.add_argument(
        "--split",
        default="auto",
        help="auto, column, chromosome, block, similarity or random (default: auto)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON, too")


def run(args: argparse.Namespace) -> int | None:
    """Print the findings; the status is 0 whatever they are."""
    import json

    from genomics.audit import audit
    from genomics.datasets.module import SequenceDataModule
    from genomics.results import to_json
    from genomics.splits import SplitConfig
    from seqmamba.atomic import atomic_path

    if len(args.files) == 1 and args.files[0].endswith(_RECIPE_SUFFIXES):
        data = _recipe_data(Path(args.files[0]).expanduser())
    else:
        data = SequenceDataModule(**layout(args), split=SplitConfig(by=args.split))
    data.setup()
    report = audit(data.records, data.assignment)
    print(report.text())
    if args.json:
        with atomic_path(args.json) as part:
            text = json.dumps(to_json(report.as_dict()), indent=1, allow_nan=False)
            part.write_text(text + "\n", encoding="utf-8")
    return 0


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
