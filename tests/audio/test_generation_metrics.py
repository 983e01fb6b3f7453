"""Metrics of generated recordings against hand-computed cases, closed forms and other implementations."""

import itertools
import math

import numpy as np
import pytest
import torch

from audio.bins import different_bins, k_means
from audio.frechet import FrechetDistance
from audio.generation_metrics import (
    Judged,
    am_score,
    inception_score,
    judge_set,
    modified_inception_score,
    real_distance,
    split_scores,
    two_halves_score,
)

SURE = np.eye(4)[[0, 1, 2, 3]]


def normal(n: int, dim: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((n, dim))


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return FrechetDistance(y).to(x)


def random_probabilities(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.3), n)


def test_frechet_distance_of_one_feature_is_that_of_means_and_deviations():
    x, y = normal(50, 1), 3 * normal(70, 1, seed=1) + 2
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_sets_that_differ_by_a_shift_is_its_square():
    x = normal(200, 6)
    assert distance(x, x + 2.0) == pytest.approx(6 * 4.0, rel=1e-12)
    assert distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_agrees_with_torchaudio():
    from torchaudio.functional import frechet_distance as theirs

    mix = normal(5, 5, seed=3)
    x, y = normal(40, 5), normal(60, 5, seed=1) @ mix + 0.3
    moments = [torch.from_numpy(m) for z in (x, y) for m in (z.mean(0), np.cov(z, rowvar=False))]
    assert distance(x, y) == pytest.approx(float(theirs(*moments)), rel=1e-9)


def test_frechet_distance_without_full_rank_has_a_closed_form():
    """Two points each: the covariances are a a' and b b', and the root of their product has trace |a b|."""
    a, b = normal(1, 30)[0], normal(1, 30, seed=1)[0]
    x, y = np.stack((a, -a)) / math.sqrt(2), np.stack((b, -b)) / math.sqrt(2)
    expected = a @ a + b @ b - 2 * abs(a @ b)
    assert distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert distance(x, x) == pytest.approx(0, abs=1e-12)
    orthogonal = np.stack((np.eye(30)[0], -np.eye(30)[0])), np.stack((np.eye(30)[1], -np.eye(30)[1]))
    assert distance(*orthogonal) == pytest.approx(2 + 2, rel=1e-12)


def test_a_weight_is_a_repetition():
    x, y = normal(6, 3), normal(20, 3, seed=1)
    weights = np.array([[0, 2, 1, 0, 3, 0.0], np.ones(6)])
    repeated = np.repeat(x, weights[0].astype(int), axis=0)
    found = FrechetDistance(y).to_resamples(x, weights)
    assert found == pytest.approx([distance(repeated, y), distance(x, y)], rel=1e-12)


def test_a_single_recording_has_no_covariance():
    assert math.isnan(distance(normal(1, 3), normal(9, 3)))
    assert math.isnan(distance(normal(9, 3), normal(1, 3)))


def test_inception_score_reaches_from_one_to_the_number_of_classes():
    assert inception_score(SURE)[0] == pytest.approx(4)
    assert inception_score(np.full((9, 4), 0.25))[0] == pytest.approx(1)
    assert inception_score(SURE[[0, 0, 0]])[0] == pytest.approx(1)  # sure, but of one class alone
    assert inception_score(SURE[[0, 1]])[0] == pytest.approx(2)


def test_scores_are_those_of_their_definitions():
    p, q = random_probabilities(12, 5), random_probabilities(30, 5, seed=1)

    def divergence(a, b):
        return float((a * np.log(a / b)).sum())

    mean = p.mean(0)
    assert math.log(inception_score(p)[0]) == pytest.approx(np.mean([divergence(row, mean) for row in p]))
    pairs = [divergence(a, b) for a, b in itertools.product(p, p)]
    assert math.log(modified_inception_score(p)[0]) == pytest.approx(np.mean(pairs))
    entropy = -(p * np.log(p)).sum(1).mean()
    assert am_score(p, q)[0] == pytest.approx(divergence(q.mean(0), mean) + entropy)


def test_scores_of_resamples_are_those_of_repeated_recordings():
    p, q = random_probabilities(8, 3), random_probabilities(9, 3, seed=1)
    weights = np.array([[3, 0, 1, 0, 2, 0, 1, 1.0], np.ones(8)])
    repeated = np.repeat(p, weights[0].astype(int), axis=0)
    for score in (inception_score, modified_inception_score, lambda p, w=None: am_score(p, q, w)):
        assert score(p, weights) == pytest.approx([score(repeated)[0], score(p)[0]])


def test_the_am_score_asks_for_the_classes_of_the_reference():
    real = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0.0]])
    assert am_score(real, real)[0] == pytest.approx(0)
    assert am_score(np.eye(3), np.eye(3)[[0, 1, 2, 0]])[0] > 0  # equal shares are not its shares
    assert 100 < am_score(real[:2], real)[0] < math.inf  # a class is missing, and the classifier is sure
    assert am_score(np.full((4, 3), 1 / 3), np.eye(3))[0] == pytest.approx(math.log(3))


def test_a_class_ruled_out_by_underflow_gives_a_large_score_and_no_infinity():
    assert math.isfinite(modified_inception_score(SURE)[0])
    assert modified_inception_score(SURE)[0] > 1e100


def test_two_halves_exceed_the_score_of_few_recordings():
    p = random_probabilities(40, 10)
    assert two_halves_score(p, seed=0) > inception_score(p)[0]
    many = random_probabilities(20_000, 4)
    assert two_halves_score(many, seed=0) == pytest.approx(inception_score(many)[0], rel=0.02)
    assert two_halves_score(p, seed=0) == two_halves_score(p, seed=0) != two_halves_score(p, seed=1)
    assert math.isnan(two_halves_score(p[:1], seed=0))


def test_parts_of_a_set_have_smaller_scores_than_the_set():
    p = random_probabilities(200, 10)
    parts = split_scores(p, 10, seed=0)
    assert len(parts) == 10
    assert parts.mean() < inception_score(p)[0]
    assert len(split_scores(p[:3], 10, seed=0)) == 3
    assert split_scores(p[:3], 10, seed=0) == pytest.approx(1)


def judged(n: int, seed: int, dim: int = 8) -> Judged:
    return Judged(normal(n, dim, seed), random_probabilities(n, 3, seed))


def test_intervals_hold_the_value_and_repeat_with_the_seed():
    generated, reference = judged(80, 0), judged(300, 1)
    metrics, bias = judge_set(generated, reference, bootstrap=60, seed=3)
    again, bias_again = judge_set(generated, reference, bootstrap=60, seed=3)
    assert (metrics, bias) == (again, bias_again)
    assert list(metrics) == ["fid", "inception_score", "modified_inception_score", "am_score"]
    for estimate in metrics.values():
        assert estimate.low < estimate.value < estimate.high
    assert metrics["fid"].value == pytest.approx(distance(generated.features, reference.features))
    without, bias = judge_set(generated, reference, bootstrap=0, seed=3)
    assert math.isnan(without["fid"].low)
    assert math.isnan(bias)


def test_the_estimated_bias_is_about_that_of_few_recordings():
    """Sets of one distribution: whatever FID they have is bias."""
    reference = judged(20_000, 1)
    biases, values = [], []
    for seed in range(2, 10):
        metrics, bias = judge_set(judged(100, seed), reference, bootstrap=40, seed=0)
        biases.append(bias)
        values.append(metrics["fid"].value)
    assert np.mean(biases) == pytest.approx(np.mean(values), rel=0.35)
    assert np.mean(values) > 0.2


def test_real_recordings_are_as_far_from_each_other_as_there_are_few():
    reference = judged(400, 0)
    few, count, rest = real_distance(reference, 20)
    assert (count, rest) == (20, 380)
    many, count, rest = real_distance(reference, 1000)
    assert (count, rest) == (200, 200)
    assert few.low <= few.value <= few.high
    assert few.value > 3 * many.value > 0
    assert math.isnan(real_distance(judged(3, 0), 9)[0].value)


def test_a_single_generated_recording_gets_what_there_is():
    metrics, bias = judge_set(judged(1, 0), judged(50, 1), bootstrap=5, seed=0)
    assert math.isnan(metrics["fid"].value)
    assert math.isnan(bias)
    assert metrics["inception_score"].value == pytest.approx(1)
    assert metrics["am_score"].value > 0


def clusters(counts: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 100 * np.eye(len(counts))
    return np.concatenate([centres[i] + rng.standard_normal((n, len(counts))) for i, n in enumerate(counts)])


def test_clusters_are_found():
    rows = torch.from_numpy(clusters((30, 30, 30, 30)))
    centres = k_means(rows, 4, seed=0)
    means = torch.stack([part.mean(0) for part in rows.split(30)])
    assert torch.cdist(means, centres).min(dim=1).values.max() < 1e-9
    assert len(k_means(torch.zeros(9, 2, dtype=torch.float64), 4, seed=0)) == 1


def test_bins_differ_where_shares_do():
    real = clusters((100, 100, 100, 100))
    assert different_bins(clusters((50, 50, 50, 50), 1), real, bins=4).different == 0
    found = different_bins(clusters((200, 0, 100, 100), 1), real, bins=4)
    assert (found.bins, found.different, found.empty, found.share) == (4, 2, 1, 0.5)


def test_the_test_of_a_bin_is_that_of_two_proportions():
    """50 of 100 against 36 of 100: z = 0.14 / sqrt(0.43 * 0.57 * 0.02) = 2.0; against 37: z = 1.85."""
    real = clusters((50, 50))
    assert different_bins(clusters((36, 64), 1), real, bins=2).different == 2
    assert different_bins(clusters((37, 63), 1), real, bins=2).different == 0


def test_few_real_recordings_make_few_bins():
    assert different_bins(normal(5, 3), normal(25, 3, seed=1)).bins == 2
    assert different_bins(normal(1, 3), normal(4, 3, seed=1)).bins == 1
