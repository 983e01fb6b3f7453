"""Metrics of generated recordings, from what a classifier of real ones says of them.

``p`` are the probabilities of k classes that the classifier gives to each of n recordings. Numbers depend on
the classifier: they compare sets that one classifier judged, and no others. Logarithms are natural.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from audio.frechet import FrechetDistance
from seqmamba.metrics import Estimate, draw_resamples

Probabilities = Float[np.ndarray, "n k"]
Weights = Float[np.ndarray, "resamples n"]
PerResample = Float[np.ndarray, " resamples"]

_TINY = np.finfo(np.float64).tiny
_CHUNK = 2_000_000  # weights held at a time


@dataclass(frozen=True)
class Judged:
    """What a classifier says of a set of recordings.

    Attributes:
        features: Its pooled features, float64.
        probabilities: Its probabilities, float64: 1e-30 and 0 make different scores.
    """

    features: Float[np.ndarray, "n dim"]
    probabilities: Probabilities

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, places: Int[np.ndarray, " m"]) -> Judged:
        """Return some of the recordings."""
        return Judged(self.features[places], self.probabilities[places])


def inception_score(p: Probabilities, weights: Weights | None = None) -> PerResample:
    """Return exp E KL(p(y|x) || p(y)), from 1 to k (Salimans et al. 2016, arXiv:1606.03498).

    Args:
        p: Probabilities.
        weights: How often each recording is in each resample; None: once, in one.
    """
    weights = _all_once(p, weights)
    mean = _mean(p, weights)
    return np.exp(_negentropy(p, weights) - (mean * _log(mean)).sum(1))


def modified_inception_score(p: Probabilities, weights: Weights | None = None) -> PerResample:
    """Return exp E KL(p(y|x1) || p(y|x2)) over all pairs (Gurumurthy et al. 2017, arXiv:1706.02071).

    The mean over all n^2 ordered pairs, which SaShiMi's 10,000 random pairs estimate. A pair of which one is
    sure of what the other excludes weighs as much as its smallest probability is small, so classifiers that
    are very sure give very large scores.

    Args:
        p: Probabilities.
        weights: As for `inception_score`.
    """
    weights = _all_once(p, weights)
    cross = (_mean(p, weights) * _mean(_log(p), weights)).sum(1)
    return np.exp(_negentropy(p, weights) - cross)


def am_score(p: Probabilities, reference: Probabilities, weights: Weights | None = None) -> PerResample:
    """Return KL(p_reference(y) || p(y)) + E H(p(y|x)), best 0 (Zhou et al. 2018, arXiv:1703.02000).

    Unlike the Inception Score it asks for the classes of the reference, which need not be equally frequent.

    Args:
        p: Probabilities.
        reference: Those of real recordings.
        weights: As for `inception_score`.
    """
    weights = _all_once(p, weights)
    real = reference.mean(0)
    divergence = (real * (_log(real) - _log(_mean(p, weights)))).sum(1)
    return divergence - _negentropy(p, weights)


def split_scores(p: Probabilities, splits: int, seed: int) -> Float[np.ndarray, " splits"]:
    """Return the Inception Score of each part of a random division, whose mean and spread are often given.

    Args:
        p: Probabilities.
        splits: Number of parts; no more than there are recordings.
        seed: Of the order.
    """
    order = np.random.default_rng(seed).permutation(len(p))
    parts = np.array_split(order, max(1, min(splits, len(p))))
    return np.array([inception_score(p[part])[0] for part in parts])


def two_halves_score(p: Probabilities, seed: int) -> float:
    """Return the Inception Score as in the published numbers of SC09: of one half against the other's mean.

    Kong et al. 2021 (DiffWave) and Goel et al. 2022 (SaShiMi). Larger than `inception_score` of as many
    recordings, since no recording is part of the mean that it is compared with; NaN of a single one.

    Args:
        p: Probabilities.
        seed: Of the order.
    """
    if len(p) < 2:
        return float("nan")
    order = np.random.default_rng(seed).permutation(len(p))
    scored, others = np.split(p[order], [len(p) // 2])
    return float(np.exp((scored * (_log(scored) - _log(others.mean(0)))).sum(1).mean()))


def judge_set(
    generated: Judged, reference: Judged, *, bootstrap: int, seed: int
) -> tuple[dict[str, Estimate], float]:
    """Compute FID, IS, modified IS and AM score, each with the 95 % interval of resampled recordings.

    The reference is not resampled. A resample repeats recordings, so it is less diverse than the set, and
    each of these metrics drifts with diversity. The interval is the spread of the resamples moved to the
    value: value + percentile - mean (Efron and Tibshirani 1993, section 10). The drift of FID is returned,
    too: about as much as the FID of n recordings exceeds that of many more.

    Args:
        generated: The set.
        reference: Real recordings.
        bootstrap: Number of resamples; 0 gives NaN intervals.
        seed: Of the resamples.

    Returns:
        The metrics, and the estimated bias of the FID.
    """
    distance, p = FrechetDistance(reference.features), generated.probabilities
    scores = {
        "inception_score": (partial(inception_score, p), 1.0),
        "modified_inception_score": (partial(modified_inception_score, p), 1.0),
        "am_score": (partial(am_score, p, reference.probabilities), 0.0),
    }
    fid = distance.to(generated.features)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in ("fid", *scores)}
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(generated))
    for start in range(0, bootstrap, step):
        weights = draw_resamples(rng, min(step, bootstrap - start), len(generated))
        if generated is not reference:  # whose distance to itself is no estimate of anything
            drawn["fid"].append(distance.to_resamples(generated.features, weights))
        for name, (score, _) in scores.items():
            drawn[name].append(score(weights))
    metrics = {"fid": _centred(fid, drawn["fid"], least=0.0)}
    for name, (score, least) in scores.items():
        metrics[name] = _centred(float(score()[0]), drawn[name], least=least)
    bias = float(np.concatenate(drawn["fid"]).mean()) - fid if drawn["fid"] else float("nan")
    return metrics, bias


def real_distance(
    reference: Judged, count: int, *, repeats: int = 10, seed: int = 0
) -> tuple[Estimate, int, int]:
    """Return the FID of real recordings to other real ones: what a perfect generator would get.

    It is far from 0 where there are few recordings, which is the bias of every FID beside it.

    Args:
        reference: Real recordings.
        count: How many to compare with the rest; at most half of them.
        repeats: Random choices to make.
        seed: Of the choices.

    Returns:
        Mean, smallest and largest FID; the number of those compared, and of the rest. NaN below four
        recordings.
    """
    count = min(count, len(reference) // 2)
    rest = len(reference) - count
    if count < 2:
        return Estimate(float("nan"), float("nan"), float("nan")), count, rest
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        part, others = np.split(reference.features[rng.permutation(len(reference))], [count])
        found.append(FrechetDistance(others).to(part))
    return Estimate(float(np.mean(found)), min(found), max(found)), count, rest


def _centred(value: float, drawn: list[np.ndarray], *, least: float) -> Estimate:
    values = np.concatenate(drawn) if drawn else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values) or not np.isfinite(value):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(values, [2.5, 97.5]) - values.mean() + value
    return Estimate(value, max(least, float(low)), float(high))


def _all_once(p: np.ndarray, weights: Weights | None) -> Weights:
    return np.ones((1, len(p))) if weights is None else weights


def _mean(rows: Float[np.ndarray, "n k"], weights: Weights) -> Float[np.ndarray, "resamples k"]:
    return weights @ rows / weights.sum(1, keepdims=True)


def _negentropy(p: Probabilities, weights: Weights) -> PerResample:
    """Return the mean of sum p log p, minus the entropy."""
    return _mean((p * _log(p)).sum(1)[:, None], weights)[:, 0]


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, _TINY))
