"""Whether generated recordings fill the same places of feature space as real ones, as often (NDB)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

_ALPHA_Z = 1.959963984540054  # two-sided test at a level of 0.05
_MOST_ROUNDS = 100


@dataclass(frozen=True)
class DifferentBins:
    """The number of statistically different bins.

    Attributes:
        bins: Clusters of the real recordings.
        different: Those that hold a different share of the generated ones, by a test at the level 0.05.
        empty: Those that hold none of the generated ones.
    """

    bins: int
    different: int
    empty: int

    @property
    def share(self) -> float:
        """NDB/k; about 0.05 of two sets of one kind."""
        return self.different / self.bins


def different_bins(
    generated: Float[np.ndarray, "n dim"],
    reference: Float[np.ndarray, "m dim"],
    *,
    bins: int = 50,
    seed: int = 0,
) -> DifferentBins:
    """Count bins whose shares differ (Richardson and Weiss 2018, arXiv:1805.12462, section 3).

    The real recordings are divided by k-means; each recording is in the bin of the nearest centre; the shares
    are compared by the two-proportion z test with pooled variance.

    Args:
        generated: Features of generated recordings.
        reference: Features of real ones.
        bins: Clusters; no more than a tenth of the real recordings, so that they hold ten on average.
        seed: Of the first centres.
    """
    real = torch.from_numpy(np.asarray(reference, dtype=np.float64))
    made = torch.from_numpy(np.asarray(generated, dtype=np.float64))
    centres = k_means(real, max(1, min(bins, len(real) // 10)), seed)
    counts = [torch.bincount(_nearest(x, centres), minlength=len(centres)).numpy() for x in (real, made)]
    n, m = len(real), len(made)
    pooled = (counts[0] + counts[1]) / (n + m)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    gap = np.abs(counts[0] / n - counts[1] / m)
    different = int((gap > _ALPHA_Z * error).sum())
    return DifferentBins(len(centres), different, int((counts[1] == 0).sum()))


def k_means(rows: Float[Tensor, "n dim"], count: int, seed: int) -> Float[Tensor, "count dim"]:
    """Return the centres of clusters: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's rounds.

    Args:
        rows: What to divide.
        count: Clusters, at most as many as there are rows.
        seed: Of the first centres.
    """
    rng = np.random.default_rng(seed)
    centres = rows[[int(rng.integers(len(rows)))]]
    near = torch.full((len(rows),), torch.inf, dtype=rows.dtype)
    for _ in range(count - 1):
        near = torch.minimum(near, ((rows - centres[-1]) ** 2).sum(1))
        total = float(near.sum())
        if total == 0:  # fewer different rows than clusters
            break
        place = int(rng.choice(len(rows), p=near.numpy() / total))
        centres = torch.cat((centres, rows[[place]]))
    label = torch.full((len(rows),), -1)
    for _ in range(_MOST_ROUNDS):
        previous, label = label, _nearest(rows, centres)
        if torch.equal(label, previous):
            break
        sums = torch.zeros_like(centres).index_add_(0, label, rows)
        sizes = torch.bincount(label, minlength=len(centres))[:, None]
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


def _nearest(rows: Float[Tensor, "n dim"], centres: Float[Tensor, "count dim"]) -> Int[Tensor, " n"]:
    return torch.cdist(rows, centres).argmin(dim=1)
