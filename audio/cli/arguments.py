"""Arguments that several verbs of audio take: one spelling and one help text each."""

from __future__ import annotations

import argparse
from typing import Literal


def add_pattern(parser: argparse.ArgumentParser) -> None:
    """Add what finds labels in the names of files, as ``pattern``; see `audio.manifests.SourceConfig`."""
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="find (?P<label>...), (?P<group>...), (?P<split>...) or (?P<fold>...) in the files' names; it "
        "stands for all of a name but its ending",
    )


def add_crops(parser: argparse.ArgumentParser, *, default: int) -> None:
    """Add how often a classifier looks at a recording, as ``crops``."""
    parser.add_argument(
        "--crops",
        type=int,
        default=default,
        metavar="N",
        help="stretches of a recording, where training cut recordings (default: %(default)s)",
    )


def add_on_error(parser: argparse.ArgumentParser, *, default: Literal["skip", "stop"]) -> None:
    """Add what to do about a recording that cannot be read, as ``on_error``."""
    parser.add_argument(
        "--on-error",
        choices=("skip", "stop"),
        default=default,
        help="what to do about a recording that cannot be read to its end; one that is left out is named "
        "(default: %(default)s)",
    )
