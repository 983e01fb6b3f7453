"""The Frechet distance between two sets of features, each taken for a normal distribution."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class FrechetDistance:
    """The squared Frechet distance of sets to a reference (Dowson and Landau 1982, equation 4).

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), with means m and covariances C that divide by n - 1.
    Between features of real and of generated items it is the FID (Heusel et al. 2017, arXiv:1706.08500,
    section 3).

    With C1 = A' A and C2 = R' R the eigenvalues of C1 C2 are the squared singular values of A R'. So the last
    trace is a sum of singular values: no square root of a matrix that is not symmetric, and nothing imaginary
    where a covariance lacks rank because there are fewer recordings than features.

    Args:
        reference: Features of the reference, a row for each recording. Of a single one all distances are NaN.
    """

    def __init__(self, reference: Float[np.ndarray, "m dim"]) -> None:
        rows = torch.from_numpy(np.array(reference, dtype=np.float64))
        self._mean = rows.mean(dim=0)
        centred = (rows - self._mean) / np.sqrt(len(rows) - 1 or np.nan)
        self._trace = float(centred.square().sum())
        # R of a QR decomposition: R' R is the covariance, with as few rows as do
        self._factor = torch.linalg.qr(centred, mode="r").R if len(rows) > 1 else centred

    def to(self, features: Float[np.ndarray, "n dim"]) -> float:
        """Return the distance of a set.

        Args:
            features: A row for each recording.

        Returns:
            At least 0; NaN of a single recording.
        """
        return float(self.to_resamples(features, np.ones((1, len(features))))[0])

    def to_resamples(
        self, features: Float[np.ndarray, "n dim"], weights: Float[np.ndarray, "resamples n"]
    ) -> Float[np.ndarray, " resamples"]:
        """Return the distance of each resample of a set.

        Args:
            features: A row for each recording.
            weights: How often each recording is in each resample.
        """
        rows = torch.from_numpy(np.array(features, dtype=np.float64)) - self._mean
        both = torch.cat((rows, rows @ self._factor.T), dim=1)
        return np.array([self._distance(both, torch.from_numpy(each)) for each in weights])

    def _distance(self, rows: Tensor, times: Tensor) -> float:
        """Return the distance of rows, beside which their products with R' stand, each so many times."""
        rows, times = rows[times > 0], times[times > 0]
        n = float(times.sum())
        if n < 2 or not np.isfinite(self._trace):
            return float("nan")
        mean = times @ rows / n
        dim = len(self._mean)
        centred = (rows - mean) * (times / (n - 1)).sqrt()[:, None]
        common = torch.linalg.svdvals(centred[:, dim:]).sum()
        own, shift = centred[:, :dim].square().sum(), mean[:dim].square().sum()
        return max(0.0, float(shift + own + self._trace - 2 * common))
