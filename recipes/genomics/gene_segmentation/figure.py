"""Draw accuracy against context from runs of this recipe.

python -m recipes.genomics.gene_segmentation.figure RUN... -o FIGURE.svg [--metric mcc]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from genomics.metrics import Estimate
from genomics.plots import against_context
from genomics.segmentation_results import SegmentationResults
from seqmamba.errors import UserError
from seqmamba.training.run_folder import RunFolder


def collect(runs: Sequence[Path], metric: str) -> dict[str, dict[int, Estimate]]:
    """Read a metric of every genome at every context from the runs' results.

    Where several runs have a context, the last one counts.

    Args:
        runs: Run folders.
        metric: Its name in the results.

    Raises:
        UserError: If a run has no results, or they lack the metric.
    """
    lines: dict[str, dict[int, Estimate]] = defaultdict(dict)
    for run in runs:
        for evaluation in SegmentationResults.load(RunFolder(run).results).evaluations:
            for group in evaluation.groups:
                if metric not in group.metrics:
                    raise UserError(f"--metric: expected one of {', '.join(group.metrics)}, got {metric!r}")
                place = "unseen" if group.unseen else "held out"
                windows = f", overlap {evaluation.overlap:g}" if evaluation.overlap else ""
                name = f"{group.genome.replace('_', ' ')} ({place}{windows})"
                lines[name][evaluation.context] = group.metrics[metric]
    return dict(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, tested")
    parser.add_argument("-o", "--output", type=Path, required=True, help="SVG, PNG or PDF file")
    parser.add_argument("--metric", default="accuracy", help="a name in results.json")
    args = parser.parse_args(words)
    try:
        figure = against_context(collect(args.runs, args.metric), ylabel=args.metric.replace("_", " "))
        figure.savefig(args.output)
    except UserError as error:
        raise SystemExit(f"error: {error.message}") from None


if __name__ == "__main__":
    main()
