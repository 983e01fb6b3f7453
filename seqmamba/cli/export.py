"""``seqmamba export RUN -o OUT``: a trained model in a form to deploy, compared with the one it is of."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from seqmamba.cli.arguments import add_again, add_device, add_model, add_output
from seqmamba.errors import UserError

if TYPE_CHECKING:
    from seqmamba.training.comparison import Comparison

HELP = "write a model to deploy: int8 weights, torch.export or ONNX, checked against the original"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser)
    add_output(parser, "OUT", "folder (int8) or file (torch, onnx) to write")
    parser.add_argument(
        "--format",
        choices=("int8", "torch", "onnx"),
        default="int8",
        help="int8: a folder that every verb reads, with what it loses; torch: a program for "
        "torch.export.load; onnx: one for an ONNX runtime (default: %(default)s)",
    )
    parser.add_argument(
        "--length", type=int, metavar="N", help="torch, onnx: positions of the program's input"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="torch, onnx: sequences at once (default: 1)")
    parser.add_argument(
        "--step",
        action="store_true",
        help="torch, onnx: the next positions (default: 1) of a causal model, with its state",
    )
    add_device(parser, default="cpu")
    add_again(parser, "what is there", resumes=False)


def run(args: argparse.Namespace) -> int | None:
    """Write the model and say how it compares."""
    from seqmamba.training.hardware import limit_threads

    limit_threads()
    if args.format == "int8":
        for name in ("length", "batch", "step"):
            if getattr(args, name):
                raise UserError(f"--{name}: is for --format torch and onnx; int8 weights take any input")
        return _quantise(args)
    return _write_program(args)


def _quantise(args: argparse.Namespace) -> int:
    """Write the folder of a model with int8 weights."""
    from seqmamba.training.hardware import find_device
    from seqmamba.training.quantised_export import export_int8

    output = args.output.expanduser()
    comparison = export_int8(args.model, output, find_device(args.device), overwrite=args.overwrite)
    _print_comparison(comparison)
    print(f"{output}: the model with int8 weights, and export.json with these numbers", file=sys.stderr)
    return 0


def _print_comparison(comparison: Comparison) -> None:
    """Print a table of both models."""
    original, smaller = comparison.original, comparison.smaller
    print(f"{'':22}{'original':>14}{'int8':>14}{'change':>12}")
    print(f"{'bytes':22}{original.bytes:14,}{smaller.bytes:14,}{smaller.bytes / original.bytes:11.2f}x")
    shape = " x ".join(map(str, comparison.batch))
    ratio = smaller.milliseconds / original.milliseconds
    print(f"{f'ms for {shape}':22}{original.milliseconds:14.2f}{smaller.milliseconds:14.2f}{ratio:11.2f}x")
    for name, value in original.metrics.items():
        other = smaller.metrics[name]
        print(f"{name:22}{value:14.4f}{other:14.4f}{other - value:+12.4f}")
    if comparison.part is None:
        print("no loss was measured: there is no run with data to measure it on")
    else:
        print(f"measured on the {comparison.part} part, {comparison.hardware}")


def _write_program(args: argparse.Namespace) -> int:
    """Write a program and a description of what it takes and gives."""
    from seqmamba.training.program_export import ProgramConfig, export_program

    if args.length is None and not args.step:
        raise UserError("--length: expected the positions of the input, or --step for one at a time")
    output = args.output.expanduser()
    length, batch = (1 if number is None else number for number in (args.length, args.batch))
    config = ProgramConfig(args.format, length, args.step, batch, args.device)
    facts = export_program(args.model, output, config, overwrite=args.overwrite)
    times = facts["milliseconds"]
    print(f"{'largest difference':22}{facts['difference']:14.2g} of the largest answer")
    print(f"{'ms of the model':22}{times['model']:14.2f}")
    print(f"{'ms of the program':22}{times['program']:14.2f}{times['program'] / times['model']:11.2f}x")
    print(f"{'bytes':22}{output.stat().st_size:14,}")
    print(f"{output}: the program; {output.name}.json says what it takes and gives", file=sys.stderr)
    return 0
