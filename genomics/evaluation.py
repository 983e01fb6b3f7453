"""What a test pass leaves in the run folder: predictions.tsv, results.json and report.html."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genomics.alphabet import decode, gc_fraction
from genomics.attribution import gradient_x_input
from genomics.models import SequenceModel
from genomics.mutagenesis import base_importance, in_silico_mutagenesis
from genomics.report import write_report
from genomics.results import (
    Attribution,
    DataSummary,
    ModelSummary,
    Results,
    SplitSummary,
)
from genomics.splits import split_method
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate, evaluate
from seqmamba.report.summary import class_title
from seqmamba.results import BaselineSummary
from seqmamba.stratify import PARTS, in_turn
from seqmamba.training.answers import Answers, count_classes, print_metrics, run_facts, write_answers
from seqmamba.training.run_folder import RunFolder

if TYPE_CHECKING:
    from genomics.datasets.module import RecordsDataModule
    from genomics.datasets.records import LabelledSequences

LONGEST_ATTRIBUTION = 20_000  # bases; a page with longer logos is of no use
LONGEST_MUTAGENESIS = 500  # bases; up to here three forward passes a base take a few seconds


@dataclass(frozen=True)
class EvaluationConfig:
    """What a test pass computes besides the predictions.

    Args:
        bootstrap: Resamples of the test part behind the 95 % intervals; 0 gives no intervals.
        baselines: Train the simple models (length and GC, k-mers, a small CNN) on the same split.
        attributions: Number of test sequences to explain base by base.
    """

    bootstrap: int = 1000
    baselines: bool = True
    attributions: int = 6

    def __post_init__(self) -> None:
        for name in ("bootstrap", "attributions"):
            if getattr(self, name) < 0:
                raise UserError(f"evaluation.{name}: expected zero or more, got {getattr(self, name)}")


def evaluate_run(
    folder: RunFolder,
    model: SequenceModel,
    data: RecordsDataModule,
    test: Answers,
    config: EvaluationConfig,
    *,
    seed: int | None,
) -> dict[str, Estimate]:
    """Evaluate a test pass and write its files, each whole or not at all.

    Args:
        folder: The run folder.
        model: The tested model.
        data: The data module, set up.
        test: The model's answers.
        config: What to compute.
        seed: The run's seed; it also seeds the bootstrap and the baselines.

    Returns:
        The test metrics with their 95 % intervals.
    """
    records = data.records
    metrics = evaluate(
        test.outputs,
        test.labels,
        records.task,
        records.classes,
        n_bootstrap=config.bootstrap,
        seed=seed or 0,
    )
    write_predictions(folder, data, test)
    # Lightning tests in inference mode; baselines train and attributions differentiate.
    with torch.inference_mode(False), torch.enable_grad():
        baselines = _baselines(data, seed or 0) if config.baselines else {}
        attributions = list(_attributions(model, records, test, config.attributions))
    Results(
        title=class_title(records.classes),
        task=records.task,
        classes=records.classes,
        **run_facts(folder, model, test.seconds, seed),
        model=ModelSummary(sum(p.numel() for p in model.parameters()), asdict(model.config)),
        data=summarise_data(records),
        split=summarise_split(data),
        leaks=data.leaks.as_dict(),
        metrics=metrics,
        baselines=baselines,
        attributions=attributions,
        notes=list(data.notes),
    ).save(folder.results)
    write_report(folder.path)
    print_metrics(metrics, baselines)
    return metrics


def write_predictions(folder: RunFolder, data: RecordsDataModule, answers: Answers) -> None:
    """Write ``predictions.tsv``; see `write_answers`."""
    write_answers(folder, answers, data.task, data.classes, data.records.names, data.assignment)


def summarise_data(records: LabelledSequences) -> DataSummary:
    """Count and measure the labelled sequences.

    Args:
        records: The data set.
    """
    lengths, regression = records.tokens.lengths, records.task == "regression"
    return DataSummary(
        n=len(records),
        per_class={} if regression else count_classes(records.task, records.classes, records.labels),
        lengths={
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "max": int(lengths.max()),
        },
        gc=float(np.mean([gc_fraction(tokens) for tokens in records.tokens])),
    )


def summarise_split(data: RecordsDataModule) -> SplitSummary:
    """Say how a data module's sequences were divided.

    Args:
        data: The data module, set up.
    """
    counts = {
        part: count_classes(data.task, data.classes, data.records.labels[data.part(part)]) for part in PARTS
    }
    return SplitSummary(split_method(data.records, data.split), data.explanation, counts)


def _baselines(data: RecordsDataModule, seed: int) -> dict[str, BaselineSummary]:
    from genomics.baselines import run_baselines  # numba kernels that training needs not load

    print("training the baselines (length and GC, k-mers, a small CNN) on the same split", file=sys.stderr)
    found = run_baselines(data.records, data.assignment, seed=seed)
    return {name: BaselineSummary(baseline.metrics, baseline.seconds) for name, baseline in found.items()}


def _attributions(
    model: SequenceModel, records: LabelledSequences, test: Answers, count: int
) -> Iterator[Attribution]:
    """Explain a few test sequences, one after the other since lengths differ."""
    device = next(model.parameters()).device
    for row, target in _examples(records, test, count):
        tokens = records.tokens[test.index[row]]
        batch = torch.from_numpy(tokens.astype(np.int64)).unsqueeze(0).to(device)
        mutate = len(tokens) <= LONGEST_MUTAGENESIS
        if mutate:
            scores = base_importance(in_silico_mutagenesis(model, batch, None, target))[0].tolist()
        else:
            scores = gradient_x_input(model, batch, None, target)[0].tolist()
        yield Attribution(
            name=records.names[test.index[row]],
            label=_in_words(records, test.labels[row]),
            prediction=records.classes[target],
            probability=float(test.outputs[row, target]),
            sequence=decode(tokens),
            scores=[float(f"{score:.5g}") for score in scores],
            method="in-silico mutagenesis" if mutate else "gradient x input",
        )


def _examples(records: LabelledSequences, test: Answers, count: int) -> list[tuple[int, int]]:
    """Choose (row, output) pairs, in turn over the outputs: the most confident right answers of each.

    For regression these are the sequences with the highest predictions.
    """
    short = records.tokens.lengths[test.index] <= LONGEST_ATTRIBUTION
    queues: list[list[tuple[int, int]]] = []
    for target in range(len(records.classes)):
        if records.task == "classification":
            right = (test.labels == target) & (test.outputs.argmax(axis=1) == target)
        elif records.task == "multilabel":
            right = test.labels[:, target] > 0.5
        else:
            right = np.ones(len(test.index), dtype=bool)
        rows = np.flatnonzero(right & short)
        ranked = rows[np.argsort(-test.outputs[rows, target], kind="stable")]
        queues.append([(int(row), target) for row in ranked[:count]])
    return in_turn(queues, count)


def _in_words(records: LabelledSequences, label: Any) -> str:
    if records.task == "classification":
        return records.classes[int(label)]
    if records.task == "multilabel":
        present = [name for name, value in zip(records.classes, label, strict=True) if value > 0.5]
        return "; ".join(present) or "none"
    return "; ".join(f"{value:.4g}" for value in label)
