"""Arguments that verbs of every domain take: one spelling and one help text each."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_model(parser: argparse.ArgumentParser, *, metavar: str = "RUN", hub: bool = True) -> None:
    """Add the trained model, as ``model``.

    Args:
        parser: The verb's parser.
        metavar: What help calls it.
        hub: Whether a repository on the hub will do, too.
    """
    folders = "run folder, or a folder with config.json and model.safetensors"
    text = "run folder, model folder or owner/name on the hub" if hub else folders
    parser.add_argument("model", metavar=metavar, help=text)


def add_output(
    parser: argparse.ArgumentParser, metavar: str, text: str, *, required: bool = True, many: bool = False
) -> None:
    """Add what is written, as ``output``: a path, or with ``many`` a list of paths.

    Args:
        parser: The verb's parser.
        metavar: What help calls it.
        text: What may be written.
        required: Whether it must be named.
        many: Whether the option may be repeated.
    """
    parser.add_argument(
        "-o",
        "--output",
        required=required,
        action="append" if many else "store",
        type=Path,
        metavar=metavar,
        help=text,
    )


def add_device(parser: argparse.ArgumentParser, *, default: str = "auto") -> None:
    """Add where to compute, as ``device``; `seqmamba.training.hardware.find_device` reads it.

    Args:
        parser: The verb's parser.
        default: ``auto`` takes a GPU if there is one.
    """
    parser.add_argument("--device", default=default, help="auto, cpu, cuda or cuda:N (default: %(default)s)")


def add_batch_size(parser: argparse.ArgumentParser, what: str, default: int) -> None:
    """Add how much is computed at once, as ``batch_size``.

    Args:
        parser: The verb's parser.
        what: What is counted, in the plural.
        default: How many.
    """
    parser.add_argument(
        "--batch-size", type=int, default=default, metavar="N", help=f"{what} at once (default: %(default)s)"
    )


def add_again(parser: argparse.ArgumentParser, what: str = "the output", *, resumes: bool = True) -> None:
    """Add what lets a verb meet its output or an interrupted run, as ``resume`` and ``overwrite``.

    Without one of them a verb refuses both; `seqmamba.finished` has the sentences.

    Args:
        parser: The verb's parser.
        what: What is there, in words.
        resumes: Whether the verb can go on with an interrupted run.
    """
    again = parser.add_mutually_exclusive_group()
    if resumes:
        again.add_argument("--resume", action="store_true", help=f"go on with {what}, if it was interrupted")
    again.add_argument("--overwrite", action="store_true", help=f"replace {what}")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add whether to print for machines, as ``json``.

    Args:
        parser: Of a verb that prints a table; with it, stdout has JSON alone.
    """
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
