"""How well any scores, such as log-odds or likelihood ratios, tell two kinds of things apart."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from seqmamba.metrics import Estimate, evaluate


def ranked_areas(
    scores: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute the areas under both curves, which depend on the order of the scores alone.

    Args:
        scores: One finite number each: the higher, the more likely positive.
        positive: Which are.
        n_bootstrap: Resamples behind the intervals; 0 gives NaN intervals.
        seed: Seed of the resampling.

    Returns:
        ``auroc`` and ``auprc`` of the positive ones, with 95 % intervals.

    Raises:
        UserError: If there is no score, or one is not finite.
    """
    # Ranks are numbers between 0 and 1 of the same order, whatever the scale of the scores.
    ranks = np.unique(scores, return_inverse=True)[1] / max(len(scores), 2)
    ranks = np.where(np.isfinite(scores), ranks, np.nan)
    found = evaluate(
        np.stack([1 - ranks, ranks], axis=1),
        positive.astype(np.int64),
        "classification",
        ("negative", "positive"),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    return {name: found[name] for name in ("auroc", "auprc")}
