"""Published numbers, kept as data beside this module, to stand beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from genomics.benchmarks.benchmark import Benchmark


@dataclass(frozen=True)
class PublishedNumber:
    """One number of a paper.

    Attributes:
        model: The model.
        parameters: Its size as the source writes it, such as ``470k``; empty where that is not known.
        value: The number, in the benchmark's metric, from 0 to 1.
        spread: The number behind its ±; None where there is none.
        spread_means: What that is, in words.
        citation: Where it stands.
        note: What to know about it; empty if nothing.
    """

    model: str
    parameters: str
    value: float
    spread: float | None
    spread_means: str
    citation: str
    note: str


def published_numbers(benchmark: Benchmark) -> list[PublishedNumber]:
    """Return what was published about a benchmark, in the order of its data file.

    Args:
        benchmark: The benchmark.
    """
    file = files("genomics.benchmarks") / "published" / f"{benchmark.family}.yaml"
    if not file.is_file():
        return []
    tables: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    found = []
    for table in tables:
        cells = table["values"].get(benchmark.task, ())
        for (model, size), cell in zip(table["models"].items(), cells, strict=False):
            value, _, spread = str(cell).partition("±")
            found.append(
                PublishedNumber(
                    model=model,
                    parameters=size or "",
                    value=float(value),
                    spread=float(spread) if spread else None,
                    spread_means=table["spread"],
                    citation=table["citation"],
                    note=table.get("note", ""),
                )
            )
    return found
