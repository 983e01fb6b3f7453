"""How well tracks were predicted, with intervals from resampling blocks of the genome.

Neighbouring bins are not independent, so the unit of the bootstrap is a block of bases. Of each block only
moments are kept: memory depends on the number of blocks and tracks, not on that of bins.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, draw_resamples, percentile_interval

METRICS = ("pearson", "r2", "mse")
_CHUNK = 20_000_000  # numbers held at a time while resampling
_SMALLEST_SPREAD = 1e-12  # of the square of the mean: what is left of a constant after rounding

PerTarget = Float[np.ndarray, "resamples targets"]


class BlockMoments:
    """First and second moments of predictions and true values, for every block and target.

    Values are merged as they come by the pairwise update of Chan et al. 1983 (doi:10.2307/2683386), which
    keeps its digits where a mean is large against the spread.

    Args:
        blocks: Number of blocks.
        targets: Number of targets.
    """

    def __init__(self, blocks: int, targets: int) -> None:
        shape = (blocks, targets)
        self.count = np.zeros(shape)
        self.means = np.zeros((2, *shape))  # of predictions and of true values
        self.squares = np.zeros((3, *shape))  # sums of squares about the means: of both, and their product

    def add(
        self,
        block: Int[np.ndarray, " n"],
        predicted: Float[np.ndarray, "n targets"],
        truth: Float[np.ndarray, "n targets"],
    ) -> None:
        """Add some bins.

        Args:
            block: Block of each bin.
            predicted: Predictions.
            truth: True values; NaN where there is none.
        """
        for number in np.unique(block).tolist():
            here = block == number
            known = np.isfinite(truth[here])
            pair = np.stack([predicted[here], truth[here]]).astype(np.float64)
            pair = np.where(known, pair, 0.0)
            count = known.sum(axis=0).astype(np.float64)
            means = pair.sum(axis=1) / np.maximum(count, 1)
            x, y = np.where(known, pair - means[:, None], 0.0)
            self._merge(number, count, means, np.stack([(x * x).sum(0), (y * y).sum(0), (x * y).sum(0)]))

    def _merge(self, number: int, count: np.ndarray, means: np.ndarray, squares: np.ndarray) -> None:
        before = self.count[number]
        total = np.maximum(before + count, 1)
        dx, dy = means - self.means[:, number]
        self.squares[:, number] += squares + np.stack([dx * dx, dy * dy, dx * dy]) * before * count / total
        self.means[:, number] += np.stack([dx, dy]) * count / total
        self.count[number] += count

    def evaluate(self, weights: Float[np.ndarray, "resamples blocks"]) -> dict[str, PerTarget]:
        """Compute the metrics of every target on resamples of the blocks; NaN where one does not exist.

        Args:
            weights: How often each block is in each resample.

        Returns:
            ``pearson``; ``r2``, 1 minus the squared error over the squared distance of the true values from
            their mean; ``mse``.
        """
        count = weights @ self.count
        overall = (self.count * self.means).sum(1) / np.maximum(self.count.sum(0), 1)
        x, y = self.means - overall[:, None]  # centred, so that products keep their digits
        mx, my = (_ratio(weights @ (self.count * each), count) for each in (x, y))

        def spread(which: int, one: np.ndarray, other: np.ndarray, middle: np.ndarray) -> np.ndarray:
            return weights @ (self.squares[which] + self.count * one * other) - count * middle

        xx, yy, xy = spread(0, x, x, mx * mx), spread(1, y, y, my * my), spread(2, x, y, mx * my)
        gap = (overall[0] + mx) - (overall[1] + my)
        errors = xx + yy - 2 * xy + count * gap * gap
        least = [_SMALLEST_SPREAD * count * (o + m) ** 2 for o, m in zip(overall, (mx, my), strict=True)]
        exists = (xx > least[0]) & (yy > least[1])
        return {
            "pearson": np.where(exists, _ratio(xy, np.sqrt(np.maximum(xx, 0) * np.maximum(yy, 0))), np.nan),
            "r2": np.where(yy > least[1], 1 - _ratio(errors, yy), np.nan),
            "mse": np.maximum(_ratio(errors, count), 0),
        }


def evaluate_tracks(
    moments: BlockMoments, targets: tuple[str, ...], *, n_bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Compute the metrics of every track with 95 % intervals, and their means over the tracks as ``mean``.

    Args:
        moments: What was predicted and what is true.
        targets: Names of the tracks.
        n_bootstrap: Number of resamples; 0 gives NaN intervals.
        seed: Seed of the resampling.

    Raises:
        UserError: If no bin has a true value.
    """
    if not moments.count.any():
        raise UserError("track metrics: expected at least one bin with a value, got none")
    blocks = len(moments.count)
    value = moments.evaluate(np.ones((1, blocks)))
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(blocks, len(targets)))
    for start in range(0, n_bootstrap, step):
        weights = draw_resamples(rng, min(step, n_bootstrap - start), blocks)
        for name, rows in moments.evaluate(weights).items():
            drawn[name].append(rows)
    found: dict[str, dict[str, Estimate]] = {}
    for number, target in enumerate(targets):
        found[target] = {
            name: Estimate(
                float(value[name][0, number]), *percentile_interval([rows[:, number] for rows in drawn[name]])
            )
            for name in METRICS
        }
    if len(targets) > 1:
        found["mean"] = {
            name: Estimate(
                float(_mean(value[name])[0]), *percentile_interval([_mean(rows) for rows in drawn[name]])
            )
            for name in METRICS
        }
    return found


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _mean(rows: PerTarget) -> Float[np.ndarray, " resamples"]:
    """Average over targets, leaving out what does not exist."""
    known = ~np.isnan(rows)
    return _ratio(np.where(known, rows, 0.0).sum(1), known.sum(1).astype(np.float64))
