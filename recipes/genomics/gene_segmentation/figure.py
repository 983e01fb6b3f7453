"""Draw accuracy against context from runs of this recipe.

python -m recipes.genomics.gene_segmentation.figure RUN... -o FIGURE.svg [--metric mcc]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from genomics.segmentation_metrics import accuracy_gain
from genomics.segmentation_results import Group, SegmentationResults
from recipes.genomics.context_figure import Lines, run_figure
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.training.run_folder import RunFolder


def collect(runs: Sequence[Path]) -> dict[str, dict[int, Group]]:
    """Read what was found of every genome at every context from the runs' results.

    Where several runs have a context, the last one counts.

    Args:
        runs: Run folders.

    Raises:
        UserError: If a run has no results.
    """
    lines: dict[str, dict[int, Group]] = defaultdict(dict)
    for run in runs:
        for evaluation in SegmentationResults.load(RunFolder(run).results).evaluations:
            for group in evaluation.groups:
                place = "unseen" if group.unseen else "held out"
                windows = f", overlap {evaluation.overlap:g}" if evaluation.overlap else ""
                name = f"{group.genome.replace('_', ' ')} ({place}{windows})"
                lines[name][evaluation.context] = group
    return dict(lines)


def values(lines: dict[str, dict[int, Group]], metric: str) -> dict[str, dict[int, Estimate]]:
    """Pick a metric.

    Args:
        lines: Of `collect`.
        metric: Its name in the results.

    Raises:
        UserError: If there is none of that name.
    """
    for group in (group for line in lines.values() for group in line.values()):
        if metric not in group.metrics:
            raise UserError(f"--metric: expected one of {', '.join(group.metrics)}, got {metric!r}")
    return {
        name: {context: group.metrics[metric] for context, group in line.items()}
        for name, line in lines.items()
    }


def gains(lines: dict[str, dict[int, Group]]) -> list[str]:
    """Say by how much every context is more accurate than the shortest one, on the same bases.

    Args:
        lines: Of `collect`.

    Raises:
        UserError: If they were tested on different bases.
    """
    said = []
    for name, line in lines.items():
        shortest, *longer = sorted(line)
        for context in longer:
            gain = accuracy_gain(line[shortest].right, line[context].right)
            interval = f"{gain.low:+.4f} to {gain.high:+.4f}"
            said.append(f"{name}: {context:,} over {shortest:,} bases {gain.value:+.4f} ({interval})")
    return said


def main(words: Sequence[str] | None = None) -> None:
    """Write the figure; print the gains of accuracy with their 95 % intervals."""

    def read(runs: Sequence[Path], metric: str) -> tuple[Lines, list[str]]:
        lines = collect(runs)
        return values(lines, metric), gains(lines)

    run_figure(__doc__, read, words)


if __name__ == "__main__":
    main()
