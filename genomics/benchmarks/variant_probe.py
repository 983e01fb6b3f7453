"""Two protocols for telling variants with an effect from others by a frozen model's features.

``paper`` is that of Caduceus (Schiff et al. 2024, arXiv:2403.03234, section 5.3 and the published notebook),
quirks included; it needs scikit-learn. ``sound`` chooses what it chooses on training chromosomes and reports
the area under the curve of scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from genomics.benchmarks.long_range import LabelledVariant
from genomics.benchmarks.task_rows import TaskRow
from genomics.benchmarks.variant_features import VariantFeatures
from seqmamba.errors import UserError
from seqmamba.linear import fit_linear
from seqmamba.metrics import Estimate, draw_resamples, evaluate_resamples, percentile_interval

QUIRKS = {
    "hard_labels": "the AUROC is that of predicted classes, not of scores: it is the balanced accuracy",
    "chosen_on_test": "C is the one of 1, 5 and 10 with the best mean AUROC on the test part of the bucket",
    "ordinal_tissue": "the tissue is one number, its place in the alphabet",
    "few_trained_on": "a support vector machine sees 5,000 training rows of the bucket, drawn with the seed",
    "buckets_share_ends": "a distance of exactly 30,000 or 100,000 bases is in two buckets",
    "reference_unchecked": "variants whose REF is not the genome's take part",
    "rows_not_variants": "a variant that the table has for several tissues counts as often",
}
"""What the paper's protocol does: name -> what it is. Windows with 0.5 % unknown bases or more are left out
there; its half precision, and the batches that its samplers drop, are not reproduced."""

BUCKETS: dict[str, tuple[float, float]] = {
    "0-30k": (0, 30_000),
    "30k-100k": (30_000, 100_000),
    "100k+": (100_000, np.inf),
}
"""Bases to the nearest transcription start."""

PENALTIES = (1, 5, 10)
TRAINED_ON = 5_000
_UNKNOWN = 0.005
_RESAMPLES = 1_000
_VALIDATING = 0.1


@dataclass(frozen=True)
class _Table:
    """The variants of the features, in arrays."""

    labels: Int[np.ndarray, " n"]
    test: Bool[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]
    tissue: np.ndarray
    chrom: np.ndarray
    variant: Int[np.ndarray, " n"]
    letters: Float[np.ndarray, "n 8"]

    @classmethod
    def of(cls, variants: Sequence[LabelledVariant]) -> _Table:
        keys = [(one.chrom, one.position, one.alt) for one in variants]
        numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        letters = np.zeros((len(variants), 8))
        for row, one in enumerate(variants):
            letters[row, "ACGT".index(one.alt)] = 1
            if one.ref is not None:
                letters[row, 4 + "ACGT".index(one.ref)] = 1
        return cls(
            labels=np.array([one.label for one in variants]),
            test=np.array([one.part == "test" for one in variants]),
            distance=np.array([np.nan if one.distance is None else one.distance for one in variants]),
            tissue=np.array([one.tissue or "" for one in variants]),
            chrom=np.array([one.chrom for one in variants]),
            variant=np.array([numbers[key] for key in keys]),
            letters=letters,
        )

    @property
    def buckets(self) -> dict[str, tuple[float, float]]:
        """The buckets; all in one where distances are not given."""
        return BUCKETS if np.isfinite(self.distance).all() else {"all": (-np.inf, np.inf)}


def paper_protocol(
    variants: Sequence[LabelledVariant], features: VariantFeatures, seeds: Sequence[int]
) -> list[TaskRow]:
    """Fit and test as the paper did.

    Args:
        variants: All variants.
        features: Their features. A model that reads both strands alike is trained on the average of both, any
            other on the given strand; all are tested on the average.
        seeds: Seeds; the paper's are 1 to 5.

    Raises:
        UserError: If scikit-learn is missing, or a bucket lacks a class.
    """
    usable = np.flatnonzero(features.unknown < _UNKNOWN)
    table = _Table.of([variants[i] for i in features.kept[usable]])
    tissues = np.unique(table.tissue)  # of both parts; the paper's are those of the test, the same ones
    tissue = np.searchsorted(tissues, table.tissue).astype(np.float64)
    given = features.forward[usable].reshape(len(usable), -1)
    average = (given + features.reverse[usable].reshape(len(usable), -1)) / 2
    rows = []
    for name, (low, high) in table.buckets.items():
        inside = (
            (table.distance >= low) & (table.distance <= high)
            if name in BUCKETS
            else np.ones(len(usable), dtype=bool)
        )
        train, test = np.flatnonzero(inside & ~table.test), np.flatnonzero(inside & table.test)
        _require_both(table.labels, train, test, name)
        trained_on = np.c_[average if features.averaged else given, tissue][train]
        scores = _svm_scores(
            trained_on, table.labels[train], np.c_[average, tissue][test], table.labels[test], seeds
        )
        best = int(np.mean(scores, axis=1).argmax())
        values = np.array(scores[best])
        mean, deviation = float(values.mean()), values.std(ddof=1) if len(values) > 1 else np.nan
        margin = 1.96 * deviation / np.sqrt(len(values))
        rows.append(
            TaskRow(
                "svm",
                "paper",
                name,
                "auroc_of_classes",
                len(seeds),
                min(TRAINED_ON, len(train)),
                len(test),
                Estimate(mean, mean - float(margin), mean + float(margin)),
                float(np.ptp(values)) if len(values) > 1 else float("nan"),
                f"C={PENALTIES[best]}",
            )
        )
    return rows


def _svm_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, seeds: Sequence[int]
) -> list[list[float]]:
    """Return the AUROC of predicted classes for every penalty and seed."""
    svm, pipeline, scaling = _sklearn()
    scores: list[list[float]] = []
    for penalty in PENALTIES:
        scores.append([])
        for seed in seeds:
            # The notebook draws from numpy's global generator, seeded just before.
            drawn = np.random.RandomState(seed).choice(
                len(train), size=TRAINED_ON, replace=len(train) < TRAINED_ON
            )
            if len(np.unique(labels[drawn])) < 2:
                raise UserError(f"seed {seed}: the drawn training rows have one class")
            model = pipeline.make_pipeline(scaling.StandardScaler(), svm.SVC(C=penalty, random_state=seed))
            predicted = model.fit(train[drawn], labels[drawn]).predict(test)
            sides = [float((predicted[truth == side] == side).mean()) for side in (0, 1)]
            scores[-1].append(sum(sides) / 2)
    return scores


def _sklearn() -> tuple[Any, Any, Any]:
    try:
        svm, pipeline, preprocessing = (
            import_module(f"sklearn.{name}") for name in ("svm", "pipeline", "preprocessing")
        )
    except ImportError:
        raise UserError(
            "the paper's protocol needs scikit-learn", hint="pip install 'seqmamba[interpret]'"
        ) from None
    return svm, pipeline, preprocessing


def sound_protocol(
    variants: Sequence[LabelledVariant], features: VariantFeatures, window: int, seed: int = 0
) -> list[TaskRow]:
    """Fit a logistic model on training chromosomes, choose its penalty on others of them, test on scores.

    Features are those of the reference and what the alternative changes, averaged over both strands, and the
    tissue as one of several. A second row shows what tissue, distance and letters alone give. Variants whose
    REF is not the genome's are left out, and so are training variants in the window of a test variant.
    Intervals resample variants, with all their tissues.

    Args:
        variants: All variants.
        features: Their features.
        window: Bases that the model read.
        seed: Of the choice of validation chromosomes and the resampling.

    Raises:
        UserError: If a part lacks a class, or training has a single chromosome.
    """
    known = np.flatnonzero(~features.mismatch)
    table = _Table.of([variants[i] for i in features.kept[known]])
    near = _near_test([variants[i] for i in features.kept[known]], table.test, window)
    train = np.flatnonzero(~table.test & ~near)
    test = np.flatnonzero(table.test)
    _require_both(table.labels, train, test, "all")
    validating = _validation_chromosomes(table, train, seed)
    fitted, held = train[~validating], train[validating]
    pair = (features.forward[known] + features.reverse[known]) / 2
    tissue = (table.tissue[:, None] == np.unique(table.tissue)).astype(np.float64)
    distance = np.log1p(np.nan_to_num(np.maximum(table.distance, 0)))[:, None]
    inputs = {
        "logistic": np.c_[pair[:, 0], pair[:, 1] - pair[:, 0], tissue],
        "tissue and distance": np.c_[tissue, distance, table.letters],
    }
    note = f"{int(near.sum()):,} training rows in the window of a test variant left out"
    rows = []
    for name, columns in inputs.items():
        scores = _logistic_scores(columns, table.labels, fitted, held, test)
        for bucket, (low, high) in {"all": (-np.inf, np.inf), **table.buckets}.items():
            distances = np.nan_to_num(table.distance[test])
            inside = np.flatnonzero((distances >= low) & (distances < high))
            if len(np.unique(table.labels[test[inside]])) < 2:
                continue
            found = _areas(scores[inside], table.labels[test[inside]], table.variant[test[inside]], seed)
            for metric, estimate in found.items():
                rows.append(
                    TaskRow(
                        *(name, "sound", bucket, metric, 1, len(fitted), len(inside), estimate, np.nan, note)
                    )
                )
    return rows


def _logistic_scores(
    columns: np.ndarray, labels: np.ndarray, fitted: np.ndarray, held: np.ndarray, test: np.ndarray
) -> np.ndarray:
    inputs, truth = torch.from_numpy(columns).float(), torch.from_numpy(labels).long()
    validation = (inputs[held], truth[held])
    model = fit_linear(inputs[fitted], truth[fitted], validation, "classification", 2)
    probabilities: np.ndarray = model(inputs[test]).softmax(dim=1).double().numpy()
    return probabilities


def _areas(
    probabilities: np.ndarray, labels: np.ndarray, variant: np.ndarray, seed: int
) -> dict[str, Estimate]:
    """Compute AUROC and AUPRC with intervals from resampling variants, rows of one variant together."""
    group = np.unique(variant, return_inverse=True)[1]
    drawn = draw_resamples(np.random.default_rng(seed), _RESAMPLES, int(group.max()) + 1)
    weights = np.concatenate([np.ones((1, len(labels))), drawn[:, group]])
    found = evaluate_resamples(weights, probabilities, labels, "classification", ("0", "1"))
    return {
        name: Estimate(float(found[name][0]), *percentile_interval([found[name][1:]]))
        for name in ("auroc", "auprc")
    }


def _near_test(
    variants: Sequence[LabelledVariant], test: Bool[np.ndarray, " n"], window: int
) -> Bool[np.ndarray, " n"]:
    """Say which training variants lie in the window of a test variant."""
    places: dict[str, list[int]] = {}
    for i in np.flatnonzero(test).tolist():
        places.setdefault(variants[i].chrom, []).append(variants[i].position)
    ordered = {chrom: np.sort(found) for chrom, found in places.items()}
    near = np.zeros(len(variants), dtype=bool)
    for i in np.flatnonzero(~test).tolist():
        there = ordered.get(variants[i].chrom)
        if there is not None:
            at = int(np.searchsorted(there, variants[i].position - window // 2))
            near[i] = at < len(there) and there[at] <= variants[i].position + window // 2
    return near


def _validation_chromosomes(table: _Table, train: np.ndarray, seed: int) -> Bool[np.ndarray, " m"]:
    """Draw chromosomes of training that decide on the penalty: at least a tenth of the rows, both classes."""
    chroms = np.random.default_rng(seed).permutation(np.unique(table.chrom[train]))
    chosen: list[str] = []
    for chrom in chroms[:-1]:
        chosen.append(str(chrom))
        mine = np.isin(table.chrom[train], chosen)
        both = all(len(np.unique(table.labels[train[part]])) == 2 for part in (mine, ~mine))
        if both and mine.mean() >= _VALIDATING:
            return mine
    raise UserError("training has too few chromosomes to set some aside that choose the penalty")


def _require_both(labels: np.ndarray, train: np.ndarray, test: np.ndarray, bucket: str) -> None:
    for part, rows in (("train", train), ("test", test)):
        if len(np.unique(labels[rows])) < 2:
            raise UserError(f"variants, {bucket}: the {part} part has {len(np.unique(labels[rows]))} classes")
