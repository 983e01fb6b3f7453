"""All benchmarks by their names."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from genomics.benchmarks import (
    cnnprom,
    genomic_benchmarks,
    gue,
    ienhancer,
    long_range,
    long_range_tracks,
    nucleotide_transformer,
)
from genomics.benchmarks.benchmark import Benchmark
from seqmamba.errors import UserError

_FAMILIES = (
    genomic_benchmarks,
    nucleotide_transformer,
    gue,
    ienhancer,
    cnnprom,
    long_range,
    long_range_tracks,
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for family in _FAMILIES for benchmark in family.BENCHMARKS
}
"""``<family>/<task>`` -> benchmark."""


def names(family: str | None = None) -> list[str]:
    """Return the names of all benchmarks, or of those of a family."""
    return [name for name, benchmark in BENCHMARKS.items() if family in (None, benchmark.family)]


def window_of(name: str, default: int = 0) -> int:
    """Return the bases of ``<family>/<task>@<bases>``.

    Args:
        name: Name of a benchmark.
        default: For a name without them.

    Raises:
        UserError: If they are no positive number.
    """
    _, at, bases = name.partition("@")
    if at and not (bases.isdecimal() and int(bases) > 0):
        raise UserError(f"{name}: expected a number of bases behind '@', got {bases!r}")
    return int(bases) if at else default


def find_benchmark(name: str) -> Benchmark:
    """Return a benchmark by ``<family>/<task>``, or ``<family>/<task>@<bases>`` with windows of that length.

    Raises:
        UserError: If there is none of that name.
    """
    plain, at, _ = name.partition("@")
    if at and plain in BENCHMARKS:
        benchmark = BENCHMARKS[plain]
        if not benchmark.windowed:
            raise UserError(f"{plain}: has sequences of its own, so {name!r} is no benchmark")
        return replace(benchmark, name=name, reader=partial(benchmark.reader, length=window_of(name)))
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    families = sorted({benchmark.family for benchmark in BENCHMARKS.values()})
    if name in families:
        raise UserError(f"{name!r} is a family of benchmarks", hint=f"one of {', '.join(names(name))}")
    raise UserError(
        f"{name!r} is no benchmark", hint=f"<family>/<task>, the families being {', '.join(families)}"
    )
