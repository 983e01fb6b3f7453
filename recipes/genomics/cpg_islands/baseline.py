"""The yardstick of cpg_islands: how dense CpG is around a bin, no model at all.

    python -m recipes.genomics.cpg_islands.baseline ~/.cache/seqmamba/cpg_islands

The width of the neighbourhood is the one with the best correlation on the validation blocks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from genomics.alphabet import C, G
from genomics.binned_tracks import TrackConfig
from genomics.datasets.tracks import BinnedTrackDataModule, BinnedWindowPlan
from genomics.genome_regions import GenomeConfig
from genomics.track_metrics import BlockMoments, evaluate_tracks

WIDTHS = (1, 3, 5, 9, 17, 33)
"""Bins of a neighbourhood."""


def moments_of(data: BinnedTrackDataModule, part: str, width: int) -> BlockMoments:
    """Return the moments of CpG density and the track over the stretches of a part, a block a stretch.

    Args:
        data: The data module, set up; a context of the whole stretch.
        part: ``validation`` or ``test``.
        width: Bins that the density is averaged over.
    """
    moments = BlockMoments(len(data.regions[part]), len(data.targets))
    loader = data.val_dataloader() if part == "validation" else data.test_dataloader()
    for batch in loader:
        lengths = batch.get("lengths")
        for row, (which, first, last, _) in enumerate(batch["place"].tolist()):
            size = batch["tokens"].shape[1] if lengths is None else int(lengths[row])
            density = smoothed(batch["tokens"][row, :size].numpy(), data.windows.bin_size, width)
            truth = batch["targets"][row, : last - first].numpy()
            moments.add(np.full(last - first, which), density[:, None], truth)
    return moments


def smoothed(tokens: np.ndarray, bin_size: int, width: int) -> np.ndarray:
    """Return the mean number of CpG in the bins around each bin."""
    pairs = np.zeros(len(tokens))
    pairs[:-1] = (tokens[:-1] == C) & (tokens[1:] == G)
    counts = pairs.reshape(-1, bin_size).sum(1)
    window = np.ones(width)
    return np.convolve(counts, window, "same") / np.convolve(np.ones(len(counts)), window, "same")


def main(argv: list[str] | None = None) -> None:
    """Print the correlation on the test blocks, with its interval."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="what `seqmamba recipes prepare` made")
    folder = parser.parse_args(argv).folder
    data = BinnedTrackDataModule(
        GenomeConfig(str(folder / "human.fa"), split=str(folder / "split.bed")),
        [TrackConfig(str(folder / "islands.bed"))],
        BinnedWindowPlan(context=128 * 1024, bases_per_batch=128 * 1024),
    )
    data.setup()

    def rank(width: int) -> float:
        moments = moments_of(data, "validation", width)
        return evaluate_tracks(moments, data.targets, n_bootstrap=0)[data.targets[0]]["pearson"].value

    best = max(WIDTHS, key=rank)
    found = evaluate_tracks(moments_of(data, "test", best), data.targets)[data.targets[0]]["pearson"]
    print(f"CpG in {best} bins around: Pearson {found.value:.3f} ({found.low:.3f} to {found.high:.3f})")


if __name__ == "__main__":
    main()
