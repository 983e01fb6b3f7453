"""``seqmamba push RUN TARGET``: share a model in a folder or on the Hugging Face hub, with its card."""

from __future__ import annotations

import argparse
import sys

from seqmamba.cli.arguments import add_again, add_model

HELP = "share a model, with a card of its data, results and limits: a folder or a repository of the hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_model(parser, hub=False)
    parser.add_argument("target", metavar="TARGET", help="folder to write, or hf:owner/name on the hub")
    parser.add_argument("--licence", metavar="ID", help="of the weights, as the hub spells it: apache-2.0")
    parser.add_argument(
        "--public", action="store_true", help="let everybody read a repository that is made for it"
    )
    add_again(parser, "the model that is there", resumes=False)


def run(args: argparse.Namespace) -> int | None:
    """Write or upload the model."""
    from seqmamba.cli.recipes import data_licences
    from seqmamba.training.sharing import PushConfig, push

    config = PushConfig(args.licence, args.public, args.overwrite, data_licences())
    where = push(args.model, args.target, config)
    print(f"{where}: config.json, model.safetensors, and README.md, the card", file=sys.stderr)
    return 0
