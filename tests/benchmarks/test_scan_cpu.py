"""How much the CPU kernels gain, measured in the same run as a comparison with float64."""

from __future__ import annotations

import pytest
import torch

from seqmamba.benchmarks.comparison import Settings, compare
from seqmamba.benchmarks.floors import Limits
from seqmamba.benchmarks.operators import OPERATORS
from seqmamba.benchmarks.shapes import Shape, Widths

_UNMEASURED = Limits(bandwidth=1e10, exponentials=None)


def _best_seconds(shape: Shape, impls: tuple[str, ...], peers: tuple[str, ...] = ()) -> dict[str, float]:
    """Best time of forward and backward of each candidate; all of them passed their check."""
    settings = Settings(torch.device("cpu"), torch.float32, Widths(), impls=impls, peers=peers, seconds=1.0)
    rows = compare(OPERATORS["scan"], shape, settings, _UNMEASURED).rows
    assert [(row.name, row.detail) for row in rows if row.status != "ok"] == []
    for row in rows:
        assert max(row.errors.values()) < 2e-5, f"{row.name}: {row.errors}"
    seconds = {row.name: row.times["sum"].best / 1e3 for row in rows}
    print({name: f"{value / seconds['numba']:.1f}x numba" for name, value in seconds.items()})
    return seconds


def test_numba_is_several_times_faster_than_the_reference() -> None:
    seconds = _best_seconds(Shape(2, 512, 128), ("numba", "reference"))
    assert seconds["reference"] / seconds["numba"] >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_numba_against_reference_and_chunked_at_the_training_shape() -> None:
    seconds = _best_seconds(Shape(4, 4096, 256), ("numba", "chunked", "reference"))
    assert seconds["reference"] / seconds["numba"] >= 10
    assert seconds["chunked"] / seconds["numba"] >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_numba_against_the_parallel_scan_of_mambapy() -> None:
    pytest.importorskip("mambapy")
    seconds = _best_seconds(Shape(1, 16384, 256), ("numba",), ("mamba.py",))
    assert seconds["mamba.py"] / seconds["numba"] >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_numba_against_the_loop_of_transformers() -> None:
    pytest.importorskip("transformers")
    seconds = _best_seconds(Shape(1, 1024, 256), ("numba",), ("transformers",))
    assert seconds["transformers"] / seconds["numba"] >= 10
