"""The Frechet distance between two sets of features, each taken for a normal distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Spread:
    """Mean and covariance of a set of features, the latter as a factor.

    Attributes:
        mean: Mean (dim,).
        factor: R (rank, dim) with R' R the covariance, of at most as many rows as there are recordings.
    """

    mean: Float[np.ndarray, " dim"]
    factor: Float[np.ndarray, "rank dim"]

    @classmethod
    def of(
        cls, features: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, " n"] | None = None
    ) -> Spread:
        """Measure a set, or a resample of it; the covariance divides by n - 1.

        Args:
            features: A row for each recording.
            weights: How often each is in the set; None: once.
        """
        rows = np.asarray(features, dtype=np.float64)
        times = np.ones(len(rows)) if weights is None else weights
        rows, times = rows[times > 0], times[times > 0]
        n = times.sum()
        mean = times @ rows / n
        if n < 2:
            return cls(mean, np.full((1, rows.shape[1]), np.nan))
        centred = (rows - mean) * np.sqrt(times / (n - 1))[:, None]
        return cls(mean, np.linalg.qr(centred, mode="r"))


def frechet_distance(first: Spread, second: Spread) -> float:
    """Return the squared Frechet distance of two normal distributions (Dowson and Landau 1982, equation 4).

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)). Between features of real and of generated items it
    is the FID (Heusel et al. 2017, arXiv:1706.08500, section 3).

    The eigenvalues of C1 C2 are the squared singular values of R1 R2', with Ci = Ri' Ri. So the last trace is
    a sum of singular values: no square root of a matrix that is not symmetric, and nothing imaginary where a
    covariance lacks rank because there are fewer recordings than features.

    Args:
        first: One set.
        second: The other.

    Returns:
        The distance, at least 0; NaN where a set is a single recording.
    """
    factors = (first.factor, second.factor)
    if not all(np.isfinite(factor).all() for factor in factors):
        return float("nan")
    shift = ((first.mean - second.mean) ** 2).sum()
    traces = sum((factor**2).sum() for factor in factors)
    common = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    return max(0.0, float(shift + traces - 2 * common))
