"""Groups of sequences that must not be parted, put together from several reasons to keep them together."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def join_groups(*groupings: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Join groupings: what any of them keeps together stays together, chains included (single linkage).

    Args:
        groupings: Groups of the same n things, each numbered from 0.

    Returns:
        The group of each thing, numbered from 0 without gaps.
    """
    n = len(groupings[0])
    joined = np.arange(n)
    while True:  # the smallest number spreads through every group until nothing changes
        before = joined
        for groups in groupings:
            smallest = np.full(groups.max() + 1, n)
            np.minimum.at(smallest, groups, joined)
            joined = smallest[groups]
        if (joined == before).all():
            return np.unique(joined, return_inverse=True)[1]
