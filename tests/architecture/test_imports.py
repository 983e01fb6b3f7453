"""Importing is cheap and runs one way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import seqmamba", "import genomics, audio, recipes", "import seqmamba.cli.main"]
)
def test_import_loads_no_heavy_package(statement: str) -> None:
    heavy = {"torch", "lightning", "numba", "matplotlib", "torchaudio", "Bio", "pyfaidx"}
    assert _modules_after(statement) & heavy == set()


@pytest.mark.parametrize("words", [["-c", "import seqmamba"], ["-m", "seqmamba", "-h"]])
def test_starting_takes_under_half_a_second(words: list[str]) -> None:
    before = os.times()
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    after = os.times()  # processor time: a busy machine does not change it much
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < used < 0.5


@pytest.mark.parametrize("package", ["seqmamba.backbones", "seqmamba.ops", "seqmamba.inference"])
def test_models_do_not_load_lightning(package: str) -> None:
    assert "lightning" not in _modules_after(f"import {package}")


def test_nothing_loads_torchaudio_before_it_is_needed() -> None:
    # A torchaudio built for another CUDA than torch fails at import; DNA users must never meet that.
    assert "torchaudio" not in _modules_after(
        "import seqmamba.training, genomics.tasks, genomics.datasets, audio.files"
    )


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
