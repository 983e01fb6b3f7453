"""Simple models on the same split: a number means little until it is known what a simple model gets.

``length_gc`` sees nothing but length and GC content: if it does well, the data have a shortcut.
``kmer`` is a logistic (or ridge) regression on word frequencies, ``cnn`` two convolutions over both strands:
if one of them matches a large model, the large model is not needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genomics.cnn import CodedSequences, fit_cnn, predict_cnn
from genomics.kmers import base_codes, canonical_kmer_index, kmer_counts
from seqmamba.errors import UserError
from seqmamba.linear import LinearModel, fit_linear, output_loss
from seqmamba.metrics import Estimate, evaluate
from seqmamba.stratify import PARTS

if TYPE_CHECKING:
    from genomics.datasets.records import LabelledSequences

_BINS = 24
_COMMON = 0.002  # share of the training sequences from which a length is a feature by itself
_MAX_WORD = 6
_FEATURE_BUDGET = 60_000_000  # float32 numbers held for the k-mer model: 240 MB


@dataclass(frozen=True)
class Baseline:
    """A simple model's result on the test part.

    Args:
        name: ``length_gc``, ``kmer`` or ``cnn``.
        probabilities: Class or label probabilities, or predicted targets, float32 (test sequences, k), in
            the order of the test sequences in the data set.
        metrics: Metrics as from `seqmamba.metrics.evaluate`.
        seconds: How long training and testing took.
    """

    name: str
    probabilities: Float[np.ndarray, "n_test k"]
    metrics: dict[str, Estimate]
    seconds: float


@dataclass(frozen=True)
class Problem:
    """A data set with its split, in the form that the simple models train on.

    Args:
        codes: Base codes of all sequences end to end.
        offsets: Where each sequence begins in ``codes``.
        labels: int64 classes (n,), or float32 labels or standardised targets (n, k).
        raw_labels: Labels as in the data set, for the metrics.
        parts: Positions of the sequences of each part.
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Names of classes, labels or targets.
        target_scale: Mean and standard deviation of the training targets; 0 and 1 unless regression.
    """

    codes: np.ndarray
    offsets: np.ndarray
    labels: Tensor
    raw_labels: np.ndarray
    parts: dict[str, Int[np.ndarray, " m"]]
    task: str
    classes: tuple[str, ...]
    target_scale: tuple[Tensor, Tensor]

    @classmethod
    def build(cls, records: LabelledSequences, assignment: np.ndarray) -> Problem:
        """Prepare a data set.

        Raises:
            UserError: If a part is empty.
        """
        parts = {part: np.flatnonzero(assignment == part) for part in PARTS}
        for part, members in parts.items():
            if len(members) == 0:
                raise UserError(f"baselines: the {part} part has no sequence")
        labels = torch.from_numpy(np.array(records.labels))
        scale = (torch.zeros(1), torch.ones(1))
        if records.task == "classification":
            labels = labels.long()
        else:
            labels = labels.float()
        if records.task == "regression":
            deviation, mean = torch.std_mean(labels[parts["train"]], dim=0, correction=0)
            scale = (mean, torch.where(deviation > 0, deviation, 1.0))
            labels = (labels - scale[0]) / scale[1]
        codes, offsets = base_codes(records.tokens)
        raw = np.asarray(records.labels)
        return cls(codes, offsets, labels, raw, parts, records.task, tuple(records.classes), scale)

    def result(self, name: str, outputs: Float[Tensor, "n_test k"], started: float) -> Baseline:
        """Turn logits or standardised targets on the test part into a scored baseline."""
        if self.task == "classification":
            probabilities = outputs.softmax(dim=1)
        elif self.task == "multilabel":
            probabilities = outputs.sigmoid()
        else:
            probabilities = outputs * self.target_scale[1] + self.target_scale[0]
        array = probabilities.numpy()
        metrics = evaluate(array, self.raw_labels[self.parts["test"]], self.task, self.classes)
        return Baseline(name, array, metrics, round(time.perf_counter() - started, 2))


def run_baselines(
    records: LabelledSequences, assignment: np.ndarray, *, seed: int = 0, cnn_seconds: float = 45.0
) -> dict[str, Baseline]:
    """Train and test the three simple models; the same arguments give the same result.

    Args:
        records: The data set.
        assignment: Part of each sequence, str (n,); other values than train, validation and test take no
            part.
        seed: Seed of the CNN.
        cnn_seconds: About how long the CNN may train on one core; fixes the number of steps, not the time.

    Returns:
        Results by name: ``length_gc``, ``kmer``, ``cnn``.

    Raises:
        UserError: If a part is empty.
    """
    problem = Problem.build(records, assignment)
    return {
        "length_gc": composition_baseline(problem, "length_gc", ("length", "gc")),
        "kmer": kmer_baseline(problem),
        "cnn": cnn_baseline(problem, seed=seed, seconds=cnn_seconds),
    }


def composition_baseline(problem: Problem, name: str, facts: Sequence[str]) -> Baseline:
    """Fit a linear model on facts about the sequences that should not tell classes apart.

    Each fact enters as a number and as bins, and each common length by itself: many data sets give their
    classes different lengths, sometimes down to the base.

    Args:
        problem: The data set with its split.
        name: Name of the result.
        facts: Some of ``length``, ``gc`` and ``ambiguity`` (the share of bases that are not A, C, G or T).
    """
    started = time.perf_counter()
    table = np.concatenate([_fact_columns(problem, fact) for fact in facts], axis=1)
    outputs, _ = _linear_outputs(problem, lambda chosen: torch.from_numpy(table[chosen]))
    return problem.result(name, outputs, started)


def kmer_baseline(problem: Problem) -> Baseline:
    """Fit a linear model on frequencies of the words up to six bases long.

    Words are counted once per strand as given and once with their reverse complement as one; the kind that
    does better on the validation part is tested. With many sequences the longest words, then training
    sequences, are left out.
    """
    started = time.perf_counter()
    results = [_linear_outputs(problem, _word_features(problem, canonical)) for canonical in (True, False)]
    outputs, _ = min(results, key=lambda result: result[1])
    return problem.result("kmer", outputs, started)


def cnn_baseline(problem: Problem, *, seed: int = 0, seconds: float = 45.0) -> Baseline:
    """Train a small convolutional network, stopped early on the validation part."""
    started = time.perf_counter()
    sequences = CodedSequences.from_flat(problem.codes, problem.offsets)
    parts = problem.parts["train"], problem.parts["validation"]
    outputs = len(problem.classes)
    model = fit_cnn(sequences, problem.labels, parts, problem.task, outputs, seed=seed, seconds=seconds)
    test = predict_cnn(model, sequences, torch.from_numpy(problem.parts["test"]))
    return problem.result("cnn", test, started)


Features = Callable[[Int[np.ndarray, " m"]], Float[Tensor, "m features"]]


def _linear_outputs(problem: Problem, features: Features) -> tuple[Float[Tensor, "n_test k"], float]:
    """Return the outputs on the test part and the loss on the validation part."""
    train, validation, test = (problem.parts[part] for part in PARTS)
    width = features(train[:1]).shape[1]
    kept = max(1, _FEATURE_BUDGET // width)
    if len(train) > kept:
        train = np.sort(np.random.default_rng(0).choice(train, kept, replace=False))
    checked = features(validation[: max(1, kept // 4)]), problem.labels[validation[: max(1, kept // 4)]]
    model: LinearModel = fit_linear(
        features(train), problem.labels[train], checked, problem.task, len(problem.classes)
    )
    outputs = torch.cat([model(features(some)) for some in np.array_split(test, 1 + len(test) // 4096)])
    return outputs, float(output_loss(model(checked[0]), checked[1], problem.task))


def _word_features(problem: Problem, canonical: bool) -> Features:
    longest = _MAX_WORD
    n_train = len(problem.parts["train"])
    while longest > 4 and n_train * _words_up_to(longest, canonical) > _FEATURE_BUDGET:
        longest -= 1

    def features(chosen: Int[np.ndarray, " m"]) -> Float[Tensor, "m features"]:
        blocks = []
        for k in range(1, longest + 1):
            counts = kmer_counts(problem.codes, problem.offsets, k, canonical=canonical, chosen=chosen)
            # Frequencies, so that length itself tells nothing.
            blocks.append(counts / np.maximum(counts.sum(1, keepdims=True), 1))
        return torch.from_numpy(np.concatenate(blocks, axis=1))

    return features


def _words_up_to(longest: int, canonical: bool) -> int:
    return sum(canonical_kmer_index(k)[1] if canonical else 4**k for k in range(1, longest + 1))


def _fact_columns(problem: Problem, fact: str) -> Float[np.ndarray, "n columns"]:
    lengths = np.diff(problem.offsets).astype(np.float64)
    bases = kmer_counts(problem.codes, problem.offsets, 1, canonical=False)
    known = bases.sum(1)
    values = {
        "length": lengths,
        "gc": bases[:, 1:3].sum(1) / np.maximum(known, 1),
        "ambiguity": 1 - known / np.maximum(lengths, 1),
    }[fact]
    train = problem.parts["train"]
    columns = [values, np.log1p(values) if fact == "length" else values**2]
    edges = np.unique(np.quantile(values[train], np.linspace(0, 1, _BINS + 1)[1:-1]))
    bin_of = np.searchsorted(edges, values, side="right")
    columns.extend(bin_of == number for number in range(len(edges) + 1))
    if fact == "length":
        distinct, times = np.unique(values[train], return_counts=True)
        common = distinct[times >= max(2, _COMMON * len(train))]
        columns.extend(values == length for length in common)
    return np.stack(columns, axis=1).astype(np.float32)
