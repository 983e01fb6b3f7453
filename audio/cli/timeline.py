"""``seqmamba audio timeline RUN LONG.flac -o OUT.csv``: what is heard when, in recordings of any length."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, cast

from audio.cli.arguments import add_on_error
from seqmamba.cli.arguments import add_again, add_device, add_model, add_output

if TYPE_CHECKING:
    from audio.pcm_stream import ByteStream, PcmStream
    from audio.timeline import TimelineConfig

HELP = "find events in recordings of any length, or in what arrives on standard input"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="recordings; - reads standard input, live")
    add_output(
        parser,
        "OUT",
        "file to write (repeatable): .csv, .txt (Audacity), .selections.txt (Raven), .tsv (DCASE), or "
        ".parquet for the probabilities (default: events on standard output)",
        required=False,
        many=True,
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="HTML",
        help="page with probabilities, events and players for some of them; needs -o NAME.parquet",
    )
    _add_reading(parser)
    _add_events(parser)
    add_on_error(parser, default="stop")
    add_device(parser)
    add_again(parser, resumes=False)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hop",
        type=float,
        metavar="S",
        help="seconds of a value (default: a quarter of the window; a frame)",
    )
    parser.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="seconds that a value is about (default: those of the training)",
    )
    parser.add_argument(
        "--context",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds that a bidirectional tagger sees to either side (default: %(default)s)",
    )
    parser.add_argument(
        "--state",
        choices=("carried", "fresh"),
        help="carry the model's state through, or read windows afresh (default: carry that of causal models)",
    )
    parser.add_argument(
        "--block",
        type=int,
        default=160_000,
        metavar="N",
        help="samples read at once; makes no difference to the result (default: %(default)s)",
    )
    parser.add_argument(
        "--rate", type=int, metavar="HZ", help="sampling rate of raw samples on standard input"
    )
    parser.add_argument("--channels", type=int, default=1, metavar="N", help="their channels (default: 1)")
    parser.add_argument(
        "--samples",
        default="s16le",
        metavar="FORMAT",
        help="u8, s16le, s24le, s32le or f32le (default: s16le)",
    )


def _add_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label",
        action="append",
        metavar="CLASS",
        help="class whose events are wanted (repeatable; default: all)",
    )
    parser.add_argument(
        "--enter", type=float, default=0.5, metavar="P", help="probability to begin at (default: %(default)s)"
    )
    parser.add_argument(
        "--leave",
        type=float,
        default=0.3,
        metavar="P",
        help="probability to end below (default: %(default)s)",
    )
    parser.add_argument(
        "--median", type=int, default=1, metavar="N", help="hops of a running median before; odd (default: 1)"
    )
    parser.add_argument(
        "--min-gap", type=float, default=0.0, metavar="S", help="close gaps shorter than this (default: 0)"
    )
    parser.add_argument(
        "--min-duration", type=float, default=0.0, metavar="S", help="leave out shorter events (default: 0)"
    )


def run(args: argparse.Namespace) -> int | None:
    """Write the timeline."""
    import sys

    from audio.timeline_run import TimelineJob, check_look_ahead, describe_job, run_timeline
    from seqmamba.memory import describe_memory
    from seqmamba.training.exported import load_any_model
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    outputs = _outputs(args)
    config = _config(args)
    model = load_any_model(args.model, args.device)
    live = _standard_input(args) if "-" in args.files else None
    job = TimelineJob(config, outputs=outputs, block=args.block, on_error=args.on_error, live=live)
    print(describe_job(model, job), file=sys.stderr)
    deviation = check_look_ahead(model, args.files, config.streaming)
    if deviation is not None:
        print(deviation, file=sys.stderr)
    report = run_timeline(model, args.files, job)
    speed = report.seconds / max(report.wall_seconds, 1e-9)
    print(
        f"{report.events:,} events in {report.seconds:,.1f} s of sound, {speed:,.1f} times real time, "
        f"{describe_memory()}",
        file=sys.stderr,
    )
    if args.report is not None:
        _write_report(args, outputs)
    return 1 if report.failures else 0


def _write_report(args: argparse.Namespace, outputs: tuple[Path, ...]) -> None:
    """Write the page of what was written."""
    from audio.report import SoundConfig, write_report
    from audio.timeline_files import PARQUET

    values = next(path for path in outputs if path.suffix == PARQUET)
    tables = [path for path in outputs if path.suffix in (".csv", ".tsv")]
    recordings = tuple(Path(file).expanduser() for file in args.files if file != "-")
    sounds = SoundConfig(recordings=recordings)
    page = write_report(values, args.report, sounds, events=tables[0] if tables else None)
    print(f"report: {page}")


def _outputs(args: argparse.Namespace) -> tuple[Path, ...]:
    """Return the files to write, which must not be there yet and must have known endings."""
    from audio.timeline_files import PARQUET, event_format
    from seqmamba.errors import UserError
    from seqmamba.finished import require_new

    outputs = tuple(path.expanduser() for path in args.output or ())
    for path in outputs:
        if path.suffix != PARQUET:
            event_format(path, recordings=len(args.files))
        require_new(path, overwrite=args.overwrite)
    if args.report is not None:
        require_new(args.report.expanduser(), overwrite=args.overwrite)
        if all(path.suffix != PARQUET for path in outputs):
            raise UserError("--report: needs the probabilities", hint=f"add -o NAME{PARQUET}")
    return outputs


def _standard_input(args: argparse.Namespace) -> PcmStream:
    import sys

    from audio.pcm_stream import PcmFormat, PcmStream
    from seqmamba.errors import UserError

    if len(args.files) > 1:
        raise UserError(f"-: expected standard input alone, got {len(args.files)} recordings")
    raw = None if args.rate is None else PcmFormat(args.rate, args.channels, args.samples)
    return PcmStream(cast("ByteStream", sys.stdin.buffer), raw)


def _config(args: argparse.Namespace) -> TimelineConfig:
    from audio.events import EventConfig
    from audio.hops import StreamingConfig
    from audio.timeline import TimelineConfig

    return TimelineConfig(
        streaming=StreamingConfig(hop=args.hop, window=args.window, context=args.context, state=args.state),
        events=EventConfig(
            enter=args.enter,
            leave=args.leave,
            median=args.median,
            min_gap=args.min_gap,
            min_duration=args.min_duration,
        ),
        labels=None if args.label is None else tuple(args.label),
    )
