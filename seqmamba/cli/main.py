"""The ``seqmamba`` command: finds the verb, runs it, and turns failures into one sentence.

A verb module has ``HELP: str``, ``add_arguments(parser)`` and ``run(args) -> int | None``. Other packages add
groups of verbs through the entry-point group ``seqmamba.verbs``; an entry names a module that has ``HELP``
and ``VERBS: dict[str, str]`` (verb -> module). No verb module may import anything heavy at its top.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import NoReturn

from seqmamba.cli.failures import report_failure
from seqmamba.errors import UserError

LIGHTNING_VERBS = {
    "fit": "train a recipe",
    "validate": "evaluate a run on its validation part",
    "test": "evaluate a run on its test part",
    "predict": "write a run's predictions",
}
"""Verbs that hand the rest of the command line to `seqmamba.cli.lightning`."""

VERBS = {
    "recipes": "seqmamba.cli.recipes",
    "doctor": "seqmamba.cli.doctor",
    "check": "seqmamba.cli.check",
    "export": "seqmamba.cli.export",
    "push": "seqmamba.cli.push",
    "pull": "seqmamba.cli.pull",
    "serve": "seqmamba.cli.serve",
    "bench": "seqmamba.cli.bench",
}
"""Verbs of the core: name -> module."""

GROUP = "seqmamba.verbs"
_TRACEBACK = "--traceback"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are `UserError`s and that never guesses abbreviations."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{self.prog}: {message}", hint=f"{self.prog} -h lists what it takes")


def build_parser(only: str | None = None) -> Parser:
    """Build the parser of the whole command line.

    Args:
        only: Import no verb but this one (a verb of the core, or a group), so that starting one verb costs
            what that verb needs. None imports every verb module, for the help and for the tests.

    Returns:
        The parser; parsed arguments carry ``verb_module``, the name of the module to run.
    """
    parser = Parser(prog="seqmamba", description="Sequence models for DNA and raw audio on Mamba backbones.")
    parser.add_argument("--version", action="version", version=f"seqmamba {version('seqmamba')}")
    parser.add_argument(_TRACEBACK, action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in LIGHTNING_VERBS.items():
        commands.add_parser(name, help=summary, add_help=False)
    for name, module_name in VERBS.items():
        if only in (None, name):
            _add_verb(commands, name, module_name)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if only not in (None, entry.name):
            continue
        module = entry.load()
        group = commands.add_parser(entry.name, help=module.HELP, description=module.HELP)
        group_commands = group.add_subparsers(metavar="COMMAND", required=True)
        for name, module_name in module.VERBS.items():
            _add_verb(group_commands, name, module_name)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Words after the program name; ``sys.argv[1:]`` when None.

    Returns:
        Exit status: 0, or 2 for a mistake in the input, 1 for a defect, 130 after an interrupt.
    """
    # OpenMP threads that spin while they wait starve the rest of a busy machine: with one of two cores taken,
    # a training step took five times as long. libgomp reads this when torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv)
    show_traceback = _TRACEBACK in words
    words = [word for word in words if word != _TRACEBACK]
    try:
        return _dispatch(words)
    except SystemExit as request:  # -h and --version
        return request.code if isinstance(request.code, int) else int(request.code is not None)
    except BaseException as failure:
        return report_failure(failure, show_traceback=show_traceback)


def entry_point() -> NoReturn:
    """Exit with the status of `main`; the console script."""
    sys.exit(main())


def _dispatch(words: list[str]) -> int:
    if words and words[0] in LIGHTNING_VERBS:
        from seqmamba.cli.lightning import run_lightning

        return run_lightning(words)
    known = {*VERBS, *entry_points(group=GROUP).names}
    parser = build_parser(words[0] if words and words[0] in known else None)
    args = parser.parse_args(words)
    return import_module(args.verb_module).run(args) or 0


def _add_verb(commands: argparse._SubParsersAction, name: str, module_name: str) -> None:
    module = import_module(module_name)
    parser = commands.add_parser(name, help=module.HELP, description=module.HELP)
    module.add_arguments(parser)
    parser.set_defaults(verb_module=module_name)
