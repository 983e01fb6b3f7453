"""Run folders with realistic files and no model: what the report has to draw."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from logged_curves import metrics_csv

from genomics.results import (
    Attribution,
    DataSummary,
    ModelSummary,
    Results,
    SplitSummary,
)
from seqmamba.metrics import Estimate, evaluate
from seqmamba.predictions import Predictions
from seqmamba.results import BaselineSummary

MOTIF = "TATGCAAAT"
CONFIG = """\
seed_everything: 1
run: runs/oct4_mafk
model:
  class_path: genomics.tasks.SequenceTask
  init_args:
    model:
      backbone: {d_model: 64, n_layers: 2, direction: bidirectional}
      strand: conjoin
data:
  class_path: genomics.datasets.SequenceDataModule
  init_args:
    batch_size: 64
trainer:
  max_epochs: 10
"""


def probabilities(labels: np.ndarray, k: int, skill: float, rng: np.random.Generator) -> np.ndarray:
    """Return class probabilities that are right more often the larger the skill."""
    logits = rng.normal(size=(len(labels), k))
    logits[np.arange(len(labels)), labels] += skill
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def classification(
    folder: Path,
    *,
    n: int = 600,
    classes: tuple[str, ...] = ("mafk", "oct4"),
    skill: float = 3.0,
    skills: dict[str, float] | None = None,
    seed: int = 0,
    length: int = 200,
    names: list[str] | None = None,
    **changes: object,
) -> Results:
    """Write a classification run and return its results."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    labels = rng.permutation(np.arange(n) % k)
    outputs = probabilities(labels, k, skill, rng)
    names = names or [f"chr{8 + i % 2}:{10_000 * i}-{10_000 * i + length}" for i in range(n)]
    table = Predictions("classification", classes, names, ["test"] * n, labels, outputs)
    skills = {"length_gc": 0.2, "kmer": 1.7, "cnn": 2.7} if skills is None else skills
    baselines = {
        name: BaselineSummary(
            _evaluate(probabilities(labels, k, s, rng), labels, classes), seconds=3 + 10 * s
        )
        for name, s in skills.items()
    }
    sizes = np.bincount(labels, minlength=k)
    counts = {
        part: {name: int(scale * size) for name, size in zip(classes, sizes, strict=True)}
        for part, scale in (("train", 8), ("validation", 1), ("test", 1))
    }
    values: dict[str, object] = {
        "title": "Oct4 and MafK binding sites",
        "task": "classification",
        "classes": classes,
        "metrics": _evaluate(outputs, labels, classes),
        "baselines": baselines,
        "split": SplitSummary(
            "chromosome", "By chromosome: test is chr8 and chr9, validation chr7, training the rest.", counts
        ),
        "data": DataSummary(10 * n, {}, {"min": length, "median": length, "max": length}, 0.462),
        "attributions": attributions(classes, rng, length),
    }
    results = dataclasses.replace(_common(), **values | changes)
    write(folder, results, table)
    return results


def multilabel(folder: Path, *, n: int = 400, seed: int = 0) -> Results:
    """Write a multi-label run and return its results."""
    rng = np.random.default_rng(seed)
    classes = ("CTCF", "GATA1", "SPI1", "TAL1")
    labels = (rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.float64)
    outputs = 1 / (1 + np.exp(-(3.5 * labels - 2 + rng.normal(size=(n, 4)))))
    table = Predictions("multilabel", classes, [f"peak_{i}" for i in range(n)], ["test"] * n, labels, outputs)
    per_class = dict(zip(classes, labels.sum(axis=0).astype(int).tolist(), strict=True))
    results = dataclasses.replace(
        _common(),
        title="Four factors",
        task="multilabel",
        classes=classes,
        metrics=evaluate(outputs, labels, "multilabel", classes, n_bootstrap=200),
        split=SplitSummary("similarity", "By similarity.", {"train": per_class, "test": per_class}),
    )
    write(folder, results, table)
    return results


def regression(folder: Path, *, n: int = 300, seed: int = 0) -> Results:
    """Write a regression run and return its results."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(4, 2, size=(n, 1))
    outputs = labels * 0.8 + 0.8 + rng.normal(0, 0.7, size=(n, 1))
    weak = labels.mean() + rng.normal(0, 1, size=(n, 1))
    targets = ("log2 expression",)
    table = Predictions("regression", targets, [f"utr_{i}" for i in range(n)], ["test"] * n, labels, outputs)
    metrics = evaluate(outputs, labels, "regression", targets, n_bootstrap=200)
    baseline = BaselineSummary(evaluate(weak, labels, "regression", targets, n_bootstrap=200), 1.0)
    results = dataclasses.replace(
        _common(),
        title="Expression from 5′ UTRs",
        task="regression",
        classes=targets,
        metrics=metrics,
        baselines={"length_gc": baseline},
        split=SplitSummary("random", "At random.", {"train": {"all": 2400}, "test": {"all": n}}),
        attributions=[
            dataclasses.replace(entry, label="4.20", prediction=targets[0], probability=3.97)
            for entry in attributions(("a", "b"), rng, 60)
        ],
    )
    write(folder, results, table)
    return results


def attributions(
    classes: tuple[str, ...], rng: np.random.Generator, length: int, *, n: int = 1
) -> list[Attribution]:
    """Return noisy scores with a motif standing out."""
    entries = []
    for i in range(n):
        sequence = rng.choice(list("ACGT"), size=length)
        scores = rng.normal(0, 0.04, size=length)
        at = int(rng.integers(length // 4, length // 2))
        sequence[at : at + len(MOTIF)] = list(MOTIF)
        scores[at : at + len(MOTIF)] += rng.uniform(0.3, 1.0, size=len(MOTIF))
        label = classes[i % 2]
        predicted = classes[i % 2] if i < 2 else classes[1]
        entries.append(Attribution(f"chr8:{i}", label, predicted, 0.97, "".join(sequence), scores.tolist()))
    return entries


def write(folder: Path, results: Results, table: Predictions) -> None:
    """Write all files of a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder / "results.json")
    table.save(folder / "predictions.tsv")
    metrics_csv(folder)
    (folder / "config.yaml").write_text(CONFIG)


def leaky(exact: int = 3) -> dict[str, object]:
    """Return a leak report with offenders."""
    pairs = [[f"chr8:{i}", "test", f"copy_{i}", "train", 1.0] for i in range(exact)]
    return {
        "exact": pairs,
        "reverse_complement": [],
        "overlaps": [["chr8:100-300", "test", "chr8:150-350", "train", 150.0]],
        "similar": [],
        "counts": {
            "exact": exact,
            "reverse_complement": 0,
            "overlaps": 1,
            "similar": 0,
            "affected": exact + 1,
        },
        "ok": False,
        "summary": f"Leak: {exact + 1} of 600 held-out sequences can be recognised from an earlier part.",
    }


def _evaluate(outputs: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Estimate]:
    return evaluate(outputs, labels, "classification", classes, n_bootstrap=200)


def _common() -> Results:
    return Results(
        title="A run",
        task="classification",
        classes=("a", "b"),
        created="2026-03-01T09:30:00",
        command="seqmamba genomics fit oct4.fa mafk.fa -o runs/oct4_mafk",
        seed=1,
        hardware="2 CPU cores, x86_64",
        seconds=214.0,
        versions={"seqmamba": "0.1.0", "torch": "2.14.1", "lightning": "2.6.4", "python": "3.11.9"},
        model=ModelSummary(153_602),
        leaks={
            "exact": [],
            "reverse_complement": [],
            "overlaps": [],
            "similar": [],
            "counts": {"exact": 0, "reverse_complement": 0, "overlaps": 0, "similar": 0, "affected": 0},
            "ok": True,
            "summary": "No leak: none of the 600 held-out sequences has a copy or look-alike in training.",
        },
    )
