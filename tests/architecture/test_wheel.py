"""The wheel carries everything: it works from another folder, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("seqmamba", "genomics", "audio", "recipes")


def tracked(prefix: str) -> set[str]:
    """Files that git knows."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout")
    return {name for name in done.stdout.splitlines() if name.startswith(prefix) and (ROOT / name).is_file()}


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


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_comes_along(installed: Path, package: str) -> None:
    names = tracked(f"{package}/")
    assert names
    for name in names:
        assert (installed / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_source_distribution_has_them_too(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in tracked(""):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    words = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(words, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {name for package in PACKAGES for name in tracked(f"{package}/")} | {"pyproject.toml", "LICENSE"}
    assert wanted - names == set()


def test_recipes_are_found_shown_and_copied(installed: Path, tmp_path: Path) -> None:
    seqmamba = ["-m", "seqmamba"]
    listing = _run(installed, tmp_path, *seqmamba, "recipes", "ls")
    assert "genomics/oct4_mafk" in listing
    shown = _run(installed, tmp_path, *seqmamba, "recipes", "show", "genomics/oct4_mafk")
    assert "SequenceTask" in shown
    _run(installed, tmp_path, *seqmamba, "recipes", "cp", "genomics/oct4_mafk", "mine")
    assert list((tmp_path / "mine").rglob("*.yaml"))
