"""The wheel carries everything: it works from another folder, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a clean copy of the tracked files and unpack it into a folder of its own."""
    work = tmp_path_factory.mktemp("wheel")
    names = ("pyproject.toml", "README.md", "LICENSE", "seqmamba", "genomics", "audio", "recipes")
    source = work / "source"
    source.mkdir()
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(source)], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = work.glob("*.whl")
    target = work / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return target


def _run(installed: Path, cwd: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packages_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    load = "importlib.import_module(name).__file__ for name in ('seqmamba', 'genomics', 'audio', 'recipes')"
    code = f"import importlib; print(*({load}))"
    for file in _run(installed, tmp_path, "-c", code).split():
        assert Path(file).is_relative_to(installed)


def test_kernel_sources_come_along(installed: Path) -> None:
    kernels = [path for kind in ("cu", "cuh") for path in (ROOT / "seqmamba").rglob(f"*.{kind}")]
    assert ROOT / "seqmamba/ops/cuda/primitives.cuh" in kernels
    for path in kernels:
        assert (installed / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_recipes_are_found_shown_and_copied(installed: Path, tmp_path: Path) -> None:
    seqmamba = ["-m", "seqmamba"]
    listing = _run(installed, tmp_path, *seqmamba, "recipes", "ls")
    assert "genomics/oct4_mafk" in listing
    shown = _run(installed, tmp_path, *seqmamba, "recipes", "show", "genomics/oct4_mafk")
    assert "SequenceTask" in shown
    _run(installed, tmp_path, *seqmamba, "recipes", "cp", "genomics/oct4_mafk", "mine")
    assert list((tmp_path / "mine").rglob("*.yaml"))
