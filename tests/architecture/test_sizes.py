"""Files and functions stay small enough to read in one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("seqmamba", "genomics", "audio", "recipes")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CUDA_SOURCES = sorted((ROOT / "seqmamba").rglob("*.cu*"))
SOFT_CAP = 350
KERNEL_CAP = 500
FUNCTION_CAP = 60
VAGUE_NAMES = {"utils.py", "util.py", "common.py", "helpers.py", "misc.py"}


def _is_kernel(path: Path) -> bool:
    return path.stem == "numba_kernels" or path.stem.startswith("triton_gpu") or path.suffix == ".cu"


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    return (function.end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", SOURCES + CUDA_SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_is_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= (KERNEL_CAP if _is_kernel(path) else SOFT_CAP), (
        f"{path} has {lines} lines: split it by role"
    )


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if not _is_kernel(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_functions_are_short(path: Path) -> None:
    long = {
        node.name: _body_lines(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _body_lines(node) > FUNCTION_CAP
    }
    assert not long, f"{path}: functions over {FUNCTION_CAP} lines: {long}"


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [p for p in SOURCES if p.name in VAGUE_NAMES] == []
