"""What the README shows works: its Python runs, its command lines parse, its make targets exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seqmamba.cli.main import LIGHTNING_VERBS, build_parser

ROOT = Path(__file__).parents[1]
READMES = [
    ROOT / "README.md",
    ROOT / "genomics/README.md",
    ROOT / "audio/README.md",
    ROOT / "seqmamba/serving/README.md",
    *sorted((ROOT / "recipes").rglob("README.md")),
]
MAIN = READMES[0].read_text()


def command_lines(text: str) -> list[str]:
    text = re.sub(r"[ \t]*\\\n\s*", " ", text)  # a command over several lines
    lines = re.findall(r"^(?:    )?(seqmamba [^`\n]+)$", text, flags=re.MULTILINE)
    return [re.split(r"\s{2,}|#", line)[0].strip() for line in lines]


PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if command_lines(page.read_text())]


def test_the_python_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", MAIN, flags=re.DOTALL)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("readme", [*READMES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_command_lines_parse(readme: Path) -> None:
    lines = command_lines(readme.read_text())
    assert lines
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] not in LIGHTNING_VERBS:  # those are checked with their recipes
            build_parser().parse_args(words)


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = {word for line in re.findall(r"\bmake ([a-z -]+)", MAIN) for word in line.split()[:1]}
    assert {"demo", "test"} <= shown <= targets
