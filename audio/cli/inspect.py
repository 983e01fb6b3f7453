"""``seqmamba audio inspect``: what a set of recordings holds, and what is wrong with it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from audio.cli.arguments import add_pattern
from seqmamba.cli.arguments import add_again

if TYPE_CHECKING:
    from audio.manifests import Clip

HELP = "look at a set of recordings before training: rates, durations, silence, clipping, copies, damage"

_EPILOG = """
Every file is decoded once. Files that cannot be read are named, each with its reason, and never replaced by
others. Copies are found by their samples, so a FLAC copy of a WAV file counts.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "source",
        metavar="FOLDER|TABLE",
        help="folder with a folder for each class, flat folder, or table of files (CSV, TSV, JSON lines)",
    )
    add_pattern(parser)
    parser.add_argument(
        "--stop", action="store_true", help="stop at the first file that cannot be read, with status 2"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON, too")
    parser.add_argument("--tsv", type=Path, metavar="FILE", help="write a table with a line for each file")
    add_again(parser, "these files", resumes=False)


def run(args: argparse.Namespace) -> int | None:
    """Print the inventory; the status is 0 whatever it says, unless ``--stop`` is given."""
    from audio.inventory import take_inventory
    from audio.inventory_report import as_text, write_json, write_tsv
    from audio.manifests import SourceConfig, find_clips
    from seqmamba.finished import require_new

    for path in (args.json, args.tsv):
        if path is not None:
            require_new(path, overwrite=args.overwrite)
    clips = find_clips(args.source, SourceConfig(pattern=args.pattern))
    inventory = take_inventory(clips, stop=args.stop)
    print(as_text(inventory))
    for note in _passed_over(Path(args.source).expanduser(), clips):
        print(note)
    if args.json is not None:
        write_json(inventory, args.json)
    if args.tsv is not None:
        write_tsv(inventory, args.tsv)
    return 0


def _passed_over(source: Path, clips: list[Clip]) -> list[str]:
    """Say which files of a folder were not taken for recordings."""
    if not source.is_dir():
        return []
    known = {clip.path for clip in clips}
    others = [
        path.relative_to(source).as_posix()
        for path in sorted(source.rglob("*"))
        if path.is_file() and path not in known and not path.name.startswith(".")
    ]
    if not others:
        return []
    shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    return [f"passed over, no recordings by their names or place: {len(others):,} ({shown})"]
