"""A domain's README walked through: its commands in their order, on small stand-ins of what they fetch."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from seqmamba.cli.main import build_parser, main
from seqmamba.cli.recipes import find_recipe

ROOT = Path(__file__).parents[1]


def lines(block: str) -> list[str]:
    """Return the commands of a block, some of which go over several lines."""
    return re.sub(r"\s*\\\n\s*", " ", block).splitlines()


@dataclass(frozen=True)
class Walkthrough:
    """What to run, and what stands in for what it fetches.

    Args:
        domain: Package whose README it is.
        recipes: Name of a recipe -> what writes small data in the data folder, for ``recipes prepare``.
        fetching: Program -> what does its work here, given its arguments.
    """

    domain: str
    recipes: Mapping[str, Callable[[Path], None]]
    fetching: Mapping[str, Callable[[list[str]], None]] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        return (ROOT / self.domain / "README.md").read_text()

    @cached_property
    def blocks(self) -> list[tuple[str, str]]:
        """Kind (sh or yaml) and content of each block that is run or read, in their order."""
        return re.findall(r"^```(sh|yaml)\n(.*?)^```", self.text, flags=re.DOTALL | re.MULTILINE)

    @cached_property
    def commands(self) -> list[str]:
        return [line for kind, block in self.blocks if kind == "sh" for line in lines(block)]

    @cached_property
    def quick(self) -> dict[str, list[str]]:
        """What the README adds to commands to see them run before they learn: command -> options."""
        found = re.findall(r"`(seqmamba [\w ]+)`\s+with\s+`(--[^`]+)`", self.text)
        return {verb: shlex.split(options) for verb, options in found}

    @cached_property
    def verbs(self) -> set[str]:
        """The verbs of the domain that are walked to."""
        start = f"seqmamba {self.domain} "
        found = (part.strip() for line in self.commands for part in line.split("|"))
        return {part.split()[2] for part in found if part.startswith(start)}

    @contextmanager
    def walked(self, factory: pytest.TempPathFactory) -> Iterator[Path]:
        """Run everything in a new folder, at a new home, and give the folder after the last command."""
        folder, home = factory.mktemp("walk"), factory.mktemp("home")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("HOME", str(home))
            patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
            patch.delenv("XDG_CACHE_HOME", raising=False)
            patch.delenv("SEQMAMBA_DATA", raising=False)
            for kind, block in self.blocks:
                if kind == "yaml":
                    name = re.match(r"# (\w+\.yaml)\n", block)
                    assert name, f"a recipe begins with its file name as a comment: {block[:40]}"
                    Path(name.group(1)).write_text(block)
                    continue
                for line in lines(block):
                    self._run(line, home / ".cache/seqmamba")
            yield folder

    def _run(self, line: str, cache: Path) -> None:
        """Run a command; one that fetches leaves what stands in for it."""
        words = shlex.split(line)
        if words[:3] == ["seqmamba", "recipes", "prepare"]:
            build_parser().parse_args(words[1:])
            self.recipes[find_recipe(words[3]).name](cache)
        elif words[0] in self.fetching:
            self.fetching[words[0]](words[1:])
        elif words[0] == "seqmamba" and "|" not in words:
            verb = next((name for name in self.quick if line.startswith(f"{name} ")), None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Lightning and jsonargparse, for their own users
                assert main([*words[1:], *self.quick.get(verb or "", [])]) == 0, line
        else:
            subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True)
