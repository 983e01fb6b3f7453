"""``seqmamba audio report RUN -o report.html``: one page to look at and to listen to."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqmamba.cli.arguments import add_again

HELP = "write a page about a run, generated sound or a timeline, with players"

_EPILOG = """
The page is one file that needs neither network nor scripts: figures, tables, and players for some recordings,
cut to a few seconds each. What is shown depends on SOURCE: a run folder of a classifier or of a generative
model, tested or not; the folder of a cross-validation; a folder of generated recordings; or the probabilities
of a timeline, whose events are read from the table beside it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="run folder, folder of a cross-validation or of generated recordings, or timeline (.parquet)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="HTML",
        help="page to write (default: report.html in the folder, which is drawn anew)",
    )
    add_again(parser, "HTML", resumes=False)
    parser.add_argument(
        "--clips",
        type=int,
        default=6,
        metavar="N",
        help="recordings of each kind, such as best and worst; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--clip-seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="what is kept of each recording (default: %(default)s)",
    )
    parser.add_argument(
        "--megabytes",
        type=float,
        default=8.0,
        metavar="MB",
        help="what all players together may take (default: %(default)s)",
    )
    parser.add_argument(
        "--recordings",
        nargs="+",
        default=[],
        type=Path,
        metavar="PATH",
        help="files or folders of the recordings, where they have moved; for a timeline, to play its events",
    )
    parser.add_argument(
        "--events", type=Path, metavar="TABLE", help="events of a timeline (default: those beside it)"
    )


def run(args: argparse.Namespace) -> int | None:
    """Write the page."""
    from audio.report import SoundConfig, write_report
    from seqmamba.errors import UserError
    from seqmamba.finished import require_new
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    missing = next((path for path in args.recordings if not path.expanduser().exists()), None)
    if missing is not None:
        raise UserError(f"--recordings {missing}: no such file or folder")
    # The page of a folder is made from the folder alone and belongs to it; one named with -o may be anything.
    if args.output is not None and not args.output.expanduser().is_dir():
        require_new(args.output.expanduser(), overwrite=args.overwrite)
    config = SoundConfig(
        clips=args.clips,
        seconds=args.clip_seconds,
        megabytes=args.megabytes,
        recordings=tuple(path.expanduser() for path in args.recordings),
    )
    print(f"report: {write_report(args.source, args.output, config, events=args.events)}")
    return 0
