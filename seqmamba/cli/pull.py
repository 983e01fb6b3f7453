"""``seqmamba pull SOURCE FOLDER``: fetch a model that was shared; tensors and JSON, never pickles."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqmamba.cli.arguments import add_again

HELP = "fetch a model from a folder or a repository of the hub; only tensors, JSON and the card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("source", metavar="SOURCE", help="folder, or hf:owner/name on the hub")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    add_again(parser, "the model that is there", resumes=False)


def run(args: argparse.Namespace) -> int | None:
    """Write the folder."""
    from seqmamba.training.sharing import pull

    folder = args.folder.expanduser()
    names = pull(args.source, folder, revision=args.revision, overwrite=args.overwrite)
    print(f"{folder}: {', '.join(names)}", file=sys.stderr)
    return 0
