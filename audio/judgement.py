"""What is found of a set of generated recordings: `seqmamba audio judge`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from audio.bins import DifferentBins, different_bins
from audio.generation_metrics import judge_set, real_distance, split_scores, two_halves_score
from audio.judging import JudgeConfig, JudgedClips
from audio.neighbours import Neighbours, apart
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, draw_resamples, percentile_interval

SILENT = 1e-3
"""Root of the mean square (-60 dB) below which a recording counts as silent."""


@dataclass(frozen=True)
class Recognition:
    """How many recordings the classifier puts into the class that was asked for.

    Attributes:
        accuracy: Their share, with its 95 % bootstrap interval.
        per_class: Their share of each class that was asked for.
    """

    accuracy: Estimate
    per_class: dict[str, float]


@dataclass(frozen=True)
class Diversity:
    """How near recordings are to those of the training, and to each other.

    Attributes:
        to_training: Median distance of the features to those of the nearest training recording.
        to_each_other: Median distance to the nearest of the same set.
        copies: Recordings whose waveform is almost that of the nearest training recording, or the same.
        identical: Those with the same samples as some training recording.
        repeated: Those with the same samples as an earlier one of the set.
    """

    to_training: float
    to_each_other: float
    copies: int
    identical: int
    repeated: int


@dataclass(frozen=True)
class Judgement:
    """What is found of a set of recordings.

    Attributes:
        name: Of the set.
        n: Recordings.
        skipped: Recordings that cannot be read.
        silent: Recordings quieter than -60 dB.
        features: Features of a recording; with fewer recordings a covariance lacks rank.
        metrics: ``fid``, ``inception_score``, ``modified_inception_score`` and ``am_score``, each with its
            interval.
        fid_bias: How much of the FID comes from the number of recordings; see `judge_set`.
        fid_of_real: Mean and range of the FID of as many real recordings, if there are twice as many.
        real_counts: How many real recordings were compared with how many others for it.
        split_scores: Mean and standard deviation of the Inception Score of parts, and their number.
        two_halves: The Inception Score as in the published numbers of SC09.
        bins: Statistically different bins.
        classes: How many recordings the classifier puts into each class.
        recognition: Whether it hears what was asked for; None where no class was.
        diversity: Whether the recordings are new; None of training recordings.
    """

    name: str
    n: int
    skipped: int
    silent: int
    features: int
    metrics: dict[str, Estimate]
    fid_bias: float
    fid_of_real: Estimate
    real_counts: tuple[int, int]
    split_scores: tuple[float, float, int]
    two_halves: float
    bins: DifferentBins
    classes: dict[str, int]
    recognition: Recognition | None
    diversity: Diversity | None

    @property
    def missing(self) -> list[str]:
        """Classes that the classifier puts none of the recordings into."""
        return [name for name, count in self.classes.items() if not count]


def assess(
    found: JudgedClips,
    reference: JudgedClips,
    neighbours: Neighbours | None,
    classes: Sequence[str],
    config: JudgeConfig,
    asked: Int[np.ndarray, " n"] | None,
) -> Judgement:
    """Compute every metric of a set of recordings.

    Args:
        found: The set.
        reference: Real recordings.
        neighbours: The nearest training recordings; None where the set is of the training.
        classes: Names of the classifier's classes.
        config: How.
        asked: The class that each recording was to be of; None where none was asked for.
    """
    judged, seed = found.judged, config.seed
    metrics, bias = judge_set(judged, reference.judged, bootstrap=config.bootstrap, seed=seed)
    of_real, compared, rest = real_distance(reference.judged, len(judged), seed=seed)
    splits = split_scores(judged.probabilities, config.splits, seed)
    heard = judged.probabilities.argmax(axis=1)
    counts = np.bincount(heard, minlength=len(classes)).tolist()
    recognition = None
    if asked is not None:
        recognition = _recognition(heard == asked, asked, classes, config)
    return Judgement(
        name=found.name,
        n=len(judged),
        skipped=len(found.skipped),
        silent=int((found.level < SILENT).sum()),
        features=judged.features.shape[1],
        metrics=metrics,
        fid_bias=bias,
        fid_of_real=of_real,
        real_counts=(compared, rest),
        split_scores=(float(splits.mean()), float(splits.std()), len(splits)),
        two_halves=two_halves_score(judged.probabilities, seed),
        bins=different_bins(judged.features, reference.judged.features, bins=config.bins, seed=seed),
        classes=dict(zip(classes, counts, strict=True)),
        recognition=recognition,
        diversity=None if neighbours is None else _diversity(judged.features, neighbours),
    )


def asked_classes(
    found: JudgedClips, classes: Sequence[str], *, strict: bool
) -> Int[np.ndarray, " n"] | None:
    """Return the number of the class that each recording is labelled with; None without labels.

    Args:
        found: The recordings.
        classes: Names of the classifier's classes.
        strict: Whether a label that is no class is an error; else the labels then count as none.

    Raises:
        UserError: If a label is no class, and `strict` is set.
    """
    if not all(clip.labels for clip in found.clips):
        return None
    numbers = {name: number for number, name in enumerate(classes)}
    for clip in found.clips:
        if clip.labels[0] in numbers:
            continue
        if not strict:
            return None
        raise UserError(
            f"{clip.path}: is of the class {clip.labels[0]}, the classifier knows {', '.join(classes)}",
            hint="--unlabelled takes the folders for no classes",
        )
    return np.array([numbers[clip.labels[0]] for clip in found.clips])


def _recognition(
    hits: Bool[np.ndarray, " n"], asked: Int[np.ndarray, " n"], classes: Sequence[str], config: JudgeConfig
) -> Recognition:
    rng = np.random.default_rng(config.seed)
    draws = draw_resamples(rng, config.bootstrap, len(hits)) @ hits / len(hits)
    low, high = percentile_interval([draws])
    each = {classes[number]: float(hits[asked == number].mean()) for number in np.unique(asked)}
    return Recognition(Estimate(float(hits.mean()), low, high), each)


def _diversity(features: Float[np.ndarray, "n dim"], neighbours: Neighbours) -> Diversity:
    return Diversity(
        to_training=float(np.median(neighbours.distance)),
        to_each_other=float(np.median(apart(features))) if len(features) > 1 else float("nan"),
        copies=int(neighbours.copied.sum()),
        identical=int(neighbours.identical.sum()),
        repeated=int(neighbours.repeated.sum()),
    )
