"""The command line of the figures that draw a metric against context."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from genomics.plots import against_context
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.report.figure_files import save_figure

Lines = Mapping[str, Mapping[int, Estimate]]
"""Name of a line -> bases of context -> what was found."""

Read = Callable[[Sequence[Path], str], tuple[Lines, Sequence[str]]]
"""Gives the lines of a figure from run folders and the name of a metric, and what to print."""


def run_figure(description: str | None, read: Read, words: Sequence[str] | None) -> None:
    """Draw what run folders have.

    Args:
        description: What the figure is.
        read: Reads the runs.
        words: The command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, tested")
    parser.add_argument("-o", "--output", type=Path, required=True, help="SVG, PNG or PDF file")
    parser.add_argument("--metric", default="accuracy", help="a name in results.json")
    args = parser.parse_args(words)
    try:
        lines, said = read(args.runs, args.metric)
        save_figure(against_context(lines, ylabel=args.metric.replace("_", " ")), args.output)
        print("\n".join(said))
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None
