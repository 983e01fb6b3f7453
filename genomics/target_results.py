"""What a test of a model with named targets leaves in the run folder: results.json and evaluation.tsv."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmamba.atomic import atomic_path
from seqmamba.metrics import Estimate
from seqmamba.results import save_results
from seqmamba.training.run_folder import RunFolder

TABLE = "evaluation.tsv"


@dataclass(frozen=True)
class TargetResults:
    """Everything that was measured with one trained model.

    Attributes:
        title: What it is about.
        created: When, in ISO 8601.
        command: The command line of the test.
        seed: Of the run.
        hardware: Where the test ran.
        versions: Of the software.
        parameters: Trainable numbers.
        model: Its config.
        counts: What was judged, such as bins or variants.
        seconds: How long training and the test took.
        metrics: Target to metric to estimate with its 95 % interval.
    """

    title: str
    created: str
    command: str
    seed: int | None
    hardware: str
    versions: Mapping[str, str]
    parameters: int
    model: Mapping[str, Any]
    counts: Mapping[str, int]
    seconds: float
    metrics: Mapping[str, Mapping[str, Estimate]]

    def save(self, folder: RunFolder) -> None:
        """Write both files, each whole or not at all."""
        save_results(self, folder.results)
        write_metrics(folder.path / TABLE, self.metrics)

    def print(self) -> None:
        """Print what was judged, and the metrics with their intervals."""
        print(f"{self.title}: " + ", ".join(f"{count:,} {name}" for name, count in self.counts.items()))
        for target, metrics in self.metrics.items():
            for name, estimate in metrics.items():
                print(
                    f"  {target:24}{name:10}{estimate.value:8.4f}  {estimate.low:.4f} - {estimate.high:.4f}"
                )


def write_metrics(path: Path, metrics: Mapping[str, Mapping[str, Estimate]]) -> None:
    """Write a table: target, metric, value, low, high; an empty cell where a number does not exist."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as out:
        out.write("target\tmetric\tvalue\tlow\thigh\n")
        for target, found in metrics.items():
            for name, estimate in found.items():
                numbers = (estimate.value, estimate.low, estimate.high)
                cells = ("" if math.isnan(number) else f"{number:.6g}" for number in numbers)
                out.write("\t".join((" ".join(target.split()), name, *cells)) + "\n")
