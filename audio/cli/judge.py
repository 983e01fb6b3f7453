"""``seqmamba audio judge GENERATED --classifier RUN --reference FOLDER -o OUT``: is generated sound good?"""

from __future__ import annotations

import argparse

from audio.cli.arguments import add_crops, add_on_error, add_pattern
from seqmamba.cli.arguments import add_again, add_batch_size, add_device, add_output

HELP = "judge generated recordings with a classifier of real ones: FID, Inception Scores, copies"

_EPILOG = """
The classifier is one that `seqmamba audio fit` trained. Recordings of any format, rate and length are brought
to its rate. OUT gets judgement.md, judgement.json, recordings.tsv (class, confidence and nearest training
recording of each file), and what the classifier said, so that an interrupted run goes on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "generated",
        nargs="+",
        metavar="GENERATED",
        help="folder of generated recordings, with a folder for each class where one was asked for; several "
        "are compared",
    )
    parser.add_argument("--classifier", required=True, metavar="RUN", help="run folder or model folder")
    parser.add_argument(
        "--reference",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="folders, tables or files of the real recordings that the generator was trained on",
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="real recordings that it was not trained on, judged alike (default: the test part of the "
        "reference, where the data name one)",
    )
    add_output(parser, "OUT", "folder for the results")
    add_pattern(parser)
    parser.add_argument(
        "--unlabelled", action="store_true", help="folders of generated recordings are no classes"
    )
    _add_numbers(parser)
    add_on_error(parser, default="skip")
    add_device(parser)
    add_again(parser, "the results; what the classifier said is kept", resumes=False)


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    numbers = (
        ("bootstrap", 1000, "resamples behind the intervals"),
        ("bins", 50, "clusters of the real recordings, for NDB"),
        ("splits", 10, "parts of the Inception Score by parts"),
        ("seed", 0, "of resamples, parts and clusters"),
    )
    for name, default, words in numbers:
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{words} (default: %(default)s)"
        )
    add_batch_size(parser, "recordings", 64)
    add_crops(parser, default=1)


def run(args: argparse.Namespace) -> int | None:
    """Write the judgement and print its table."""
    from audio.inference import load_model
    from audio.judgement_report import RESULTS, JudgeSources, as_markdown, judge_folders
    from audio.judging import JudgeConfig
    from seqmamba.finished import require_new
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    output = args.output.expanduser()
    require_new(output / RESULTS, overwrite=args.overwrite)
    config = JudgeConfig(
        crops=args.crops,
        batch_size=args.batch_size,
        bootstrap=args.bootstrap,
        bins=args.bins,
        splits=args.splits,
        seed=args.seed,
        stop=args.on_error == "stop",
    )
    sources = JudgeSources(
        tuple(args.generated),
        reference=tuple(args.reference),
        held_out=tuple(args.held_out),
        pattern=args.pattern,
        unlabelled=args.unlabelled,
    )
    model = load_model(args.classifier, args.device)
    print(as_markdown(judge_folders(model, sources, output, config)))
    return 0
