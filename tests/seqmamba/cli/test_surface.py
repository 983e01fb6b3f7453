"""The verbs and options are a promise to users: a change shows up here, on purpose."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from seqmamba.cli.main import build_parser

SNAPSHOT = Path(__file__).with_name("surface.txt")


def surface(parser: argparse.ArgumentParser) -> Iterator[str]:
    words: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        name = "|".join(action.option_strings) or action.dest
        words.append(
            f"{name}{'' if action.nargs != 0 else ' (flag)'}{' (required)' if action.required else ''}"
        )
    yield f"{parser.prog}: {', '.join(sorted(words))}".rstrip()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from surface(command)


def test_the_command_line_is_as_promised() -> None:
    found = "\n".join(surface(build_parser())) + "\n"
    if os.environ.get("UPDATE_SURFACE"):
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text(), "run with UPDATE_SURFACE=1 if the change is wanted"
