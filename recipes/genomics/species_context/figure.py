"""Draw accuracy against context from runs of this recipe.

python -m recipes.genomics.species_context.figure RUN... -o FIGURE.svg [--metric mcc]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from genomics.results import Results
from recipes.genomics.context_figure import run_figure
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.training.run_folder import RunFolder


def collect(runs: Sequence[Path], metric: str) -> tuple[dict[str, dict[int, Estimate]], list[str]]:
    """Read a metric at every context from the runs' results.

    Of several seeds at one context the mean is drawn, with the lowest and the highest end of their intervals.

    Args:
        runs: Run folders, and folders of `recipes.genomics.species_context.baseline`.
        metric: Its name in the results.

    Returns:
        Line name to context to estimate, and a sentence for each.

    Raises:
        UserError: If a run has no results, or not that metric.
    """
    found: dict[str, dict[int, list[Estimate]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        results = Results.load(RunFolder(run).results)
        if metric not in results.metrics:
            raise UserError(f"--metric: expected one of {', '.join(results.metrics)}, got {metric!r}")
        name = "Mamba" if results.model.parameters else results.title
        found[name][int(results.data.lengths["max"])].append(results.metrics[metric])
    lines = {
        name: {context: _together(line[context]) for context in sorted(line)} for name, line in found.items()
    }
    said = [
        f"{name}, {context:,} bases: {one.value:.4f} ({one.low:.4f} to {one.high:.4f}), "
        f"seeds: {len(found[name][context])}"
        for name, line in lines.items()
        for context, one in line.items()
    ]
    return lines, said


def _together(seeds: list[Estimate]) -> Estimate:
    mean = sum(one.value for one in seeds) / len(seeds)
    return Estimate(mean, min(one.low for one in seeds), max(one.high for one in seeds))


def main(words: Sequence[str] | None = None) -> None:
    """Write the figure; print what it shows."""
    run_figure(__doc__, collect, words)


if __name__ == "__main__":
    main()
