"""``seqmamba audio generate RUN --seconds 10 -o OUT.wav``: sound from a trained generative model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from seqmamba.cli.arguments import add_again, add_batch_size, add_device, add_model, add_output

if TYPE_CHECKING:
    from audio.generation import GenerationConfig
    from audio.waveform_model import WaveformModel

HELP = "generate sound, written while it is made"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    add_output(
        parser, "OUT", "file (.wav, .flac, .ogg, .mp3, .w64) for one recording; a new folder for several"
    )
    parser.add_argument("--seconds", type=float, required=True, metavar="S", help="length of a recording")
    parser.add_argument(
        "--count", type=int, default=1, metavar="N", help="recordings of each class (default: 1)"
    )
    parser.add_argument(
        "--label", action="append", metavar="CLASS", help="class to generate (repeatable; default: no class)"
    )
    parser.add_argument("--each-class", action="store_true", help="generate every class that the model knows")
    _add_prefix(parser)
    _add_sampling(parser)
    _add_choice(parser)
    add_batch_size(parser, "recordings", 64)
    parser.add_argument(
        "--block-seconds",
        type=float,
        default=0.25,
        metavar="S",
        help="sound that is made before it is judged and written (default: %(default)s)",
    )
    add_device(parser)
    add_again(parser, resumes=False)


def _add_prefix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prefix", metavar="FILE", help="recording to continue; any rate and channels")
    parser.add_argument(
        "--prefix-seconds", type=float, metavar="S", help="how much of its end to read (default: all)"
    )
    parser.add_argument("--write-prefix", action="store_true", help="begin the files with it")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="default: %(default)s")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest codes")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest codes that sum to P")
    parser.add_argument(
        "--min-p", type=float, metavar="P", help="leave out codes below P times the likeliest's probability"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--no-guard", action="store_true", help="let a recording that has become noise go on as it is"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--choose",
        action="store_true",
        help="make more recordings, and leave out the least and the very most likely",
    )
    parser.add_argument(
        "--drop-unlikely",
        type=float,
        default=0.4,
        metavar="SHARE",
        help="with --choose (default: %(default)s)",
    )
    parser.add_argument(
        "--drop-likely",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="with --choose (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int | None:
    """Generate."""
    import sys

    from audio.generation_run import Choice, GenerationJob, check_output, read_prefix, run_generation
    from seqmamba.memory import describe_memory
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    model = _load(args.model, args.device)
    labels = model.config.classes if args.each_class else tuple(dict.fromkeys(args.label or (None,)))
    single = args.count == 1 and len(labels) == 1
    output = args.output.expanduser()
    check_output(output, single=single, overwrite=args.overwrite)
    prefix = None if args.prefix is None else read_prefix(model, args.prefix, args.prefix_seconds)
    choice = Choice(args.drop_unlikely, args.drop_likely) if args.choose else None
    job = GenerationJob(
        _config(args),
        labels=labels,
        count=args.count,
        prefix=prefix,
        write_prefix=args.write_prefix,
        choice=choice,
        model=str(args.model),
    )
    report = run_generation(model, job, output)
    print(f"{report.describe()}, {describe_memory()}", file=sys.stderr)
    noise = [str(sample.path) for sample in report.samples if sample.noise]
    if report.restarts:
        print(f"set back {report.restarts} times because of noise", file=sys.stderr)
    if noise:
        print(f"warning: noise all the same: {', '.join(noise)}", file=sys.stderr)
    bits = sum(sample.bits_per_sample for sample in report.samples) / len(report.samples)
    print(f"{len(report.samples)} of {report.made} recordings, {bits:.3f} bits per sample: {output}")
    if not single:
        from audio.report import write_report

        print(f"report: {write_report(output)}")
    return 0


def _load(name: str, device: str) -> WaveformModel:
    from audio.waveform_model import require_waveform_model
    from seqmamba.training.exported import load_any_model

    return require_waveform_model(load_any_model(name, device))


def _config(args: argparse.Namespace) -> GenerationConfig:
    from audio.generation import GenerationConfig
    from audio.noise_guard import GuardConfig
    from seqmamba.inference import SamplingConfig

    sampling = SamplingConfig(
        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, min_p=args.min_p, seed=args.seed
    )
    return GenerationConfig(
        args.seconds,
        sampling=sampling,
        guard=None if args.no_guard else GuardConfig(),
        batch_size=args.batch_size,
        block_seconds=args.block_seconds,
    )
