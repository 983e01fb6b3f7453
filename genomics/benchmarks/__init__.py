"""Published benchmarks, read from the files that their authors released, without anybody's loader scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genomics.benchmarks.benchmark import Benchmark
from genomics.benchmarks.catalogue import BENCHMARKS, find_benchmark, names

if TYPE_CHECKING:
    from genomics.benchmarks.module import BenchmarkDataModule
    from genomics.benchmarks.species_module import SpeciesDataModule
    from genomics.benchmarks.task import BenchmarkTask

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkDataModule",
    "BenchmarkTask",
    "SpeciesDataModule",
    "find_benchmark",
    "names",
]

_LAZY = {
    "BenchmarkDataModule": "genomics.benchmarks.module",
    "BenchmarkTask": "genomics.benchmarks.task",
    "SpeciesDataModule": "genomics.benchmarks.species_module",
}


def __getattr__(name: str) -> Any:
    """Import what needs Lightning on first use; readers do not."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
