"""All benchmarks by their names."""

from __future__ import annotations

from genomics.benchmarks import (
    cnnprom,
    genomic_benchmarks,
    gue,
    ienhancer,
    long_range,
    nucleotide_transformer,
)
from genomics.benchmarks.benchmark import Benchmark
from seqmamba.errors import UserError

_FAMILIES = (genomic_benchmarks, nucleotide_transformer, gue, ienhancer, cnnprom, long_range)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for family in _FAMILIES for benchmark in family.BENCHMARKS
}
"""``<family>/<task>`` -> benchmark."""


def names(family: str | None = None) -> list[str]:
    """Return the names of all benchmarks, or of those of a family."""
    return [name for name, benchmark in BENCHMARKS.items() if family in (None, benchmark.family)]


def find_benchmark(name: str) -> Benchmark:
    """Return a benchmark by ``<family>/<task>``.

    Raises:
        UserError: If there is none of that name.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    families = sorted({benchmark.family for benchmark in BENCHMARKS.values()})
    if name in families:
        raise UserError(f"{name!r} is a family of benchmarks", hint=f"one of {', '.join(names(name))}")
    raise UserError(
        f"{name!r} is no benchmark", hint=f"<family>/<task>, the families being {', '.join(families)}"
    )
