"""What is built for users holds every file that the packages need, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("seqmamba", "genomics", "audio", "recipes")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and a source distribution of a copy of what git knows."""
    copy, folder = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("built")
    for name in tracked(""):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def tracked(prefix: str) -> set[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout")
    return {name for name in done.stdout.splitlines() if name.startswith(prefix) and (ROOT / name).is_file()}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_has_every_file_of_a_package(built: Path, package: str) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert tracked(f"{package}/") - names == set()
    assert not any(name.startswith("tests/") for name in names)


def test_a_wheel_can_be_built_from_the_source_distribution(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {name for package in PACKAGES for name in tracked(f"{package}/")} | {"pyproject.toml", "LICENSE"}
    assert wanted - names == set()
