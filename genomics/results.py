"""What a finished run knows about itself: the contents of ``results.json``.

`genomics.evaluation` fills a `Results` after the test pass and `genomics.report` draws it, so the report is a
pure function of files and can be drawn again at any time, on any machine, without the model or the data.

Every part but the title, the task and the classes has a default that means "not known"; the report leaves
such a part out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqmamba.metrics import Estimate
from seqmamba.results import (
    BaselineSummary,
    known_fields,
    load_results,
    save_results,
    stored_baselines,
    stored_estimates,
    stored_number,
)

FILE_NAME = "results.json"
TASKS = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class ModelSummary:
    """The trained model.

    Attributes:
        parameters: Number of trainable parameters.
        config: `SequenceModelConfig` as nested plain dictionaries.
    """

    parameters: int = 0
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSummary:
    """The labelled sequences, all parts together.

    Attributes:
        n: Number of sequences.
        per_class: Sequences per class name (empty for regression).
        lengths: ``min``, ``median`` and ``max`` length in bases.
        gc: Mean fraction of G and C among A, C, G and T.
    """

    n: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, float] = field(default_factory=dict)
    gc: float = math.nan


@dataclass(frozen=True)
class SplitSummary:
    """How the sequences were divided.

    Attributes:
        by: ``column``, ``chromosome``, ``block``, ``similarity`` or ``random``.
        explanation: The sentence that `genomics.splits.assign` gave.
        counts: Part (``train``, ``validation``, ``test``) to class name to number of sequences. Regression
            uses the single key ``all``.
    """

    by: str = ""
    explanation: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attribution:
    """Which bases of one test sequence moved the model's answer.

    Attributes:
        name: Sequence name.
        label: True label in words.
        prediction: Name of the class or target that the scores explain.
        probability: The model's probability of ``prediction``, or the predicted value for regression.
        sequence: Bases, upper case.
        scores: One number a base, positive where the base supports ``prediction``.
        method: ``gradient x input`` or ``in-silico mutagenesis``.
    """

    name: str
    label: str
    prediction: str
    probability: float
    sequence: str
    scores: list[float]
    method: str = "gradient x input"

    def __post_init__(self) -> None:
        if len(self.sequence) != len(self.scores):
            raise ValueError(
                f"attribution of {self.name!r}: {len(self.sequence)} bases but {len(self.scores)} scores"
            )


@dataclass(frozen=True)
class Results:
    """Everything that the report shows, except curves (metrics.csv) and single predictions (predictions.tsv).

    Attributes:
        title: Heading of the report.
        task: ``classification``, ``multilabel`` or ``regression``.
        classes: Class names, or target names for regression.
        created: ISO 8601 date and time.
        command: The command line that made the run.
        seed: Random seed.
        hardware: One line, for example ``2 CPU cores, x86_64``.
        seconds: Wall-clock seconds of training and test.
        versions: Package name to version.
        model: The trained model.
        data: The labelled sequences.
        split: How they were divided.
        leaks: `genomics.leaks.LeakReport` as a plain dictionary; empty where no check ran.
        metrics: Metric name to test estimate with its 95 % interval.
        baselines: ``length_gc``, ``kmer`` and ``cnn`` to their results.
        attributions: A few test sequences with per-base scores.
        notes: Sentences that the reader should know, for example about cropped sequences.
    """

    title: str
    task: str
    classes: tuple[str, ...]
    created: str = ""
    command: str = ""
    seed: int | None = None
    hardware: str = ""
    seconds: float = math.nan
    versions: dict[str, str] = field(default_factory=dict)
    model: ModelSummary = field(default_factory=ModelSummary)
    data: DataSummary = field(default_factory=DataSummary)
    split: SplitSummary = field(default_factory=SplitSummary)
    leaks: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Estimate] = field(default_factory=dict)
    baselines: dict[str, BaselineSummary] = field(default_factory=dict)
    attributions: list[Attribution] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {self.task!r}")

    def save(self, path: str | Path) -> Path:
        """Write the results as JSON; see `save_results`."""
        return save_results(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read what `save` wrote; see `load_results`."""
        return load_results(path, _from_json)


def _from_json(stored: dict[str, Any]) -> Results:
    values = known_fields(Results, stored)
    values["classes"] = tuple(stored["classes"])
    values["seconds"] = stored_number(stored.get("seconds"))
    values["metrics"] = stored_estimates(stored.get("metrics", {}))
    values["model"] = ModelSummary(**known_fields(ModelSummary, stored.get("model", {})))
    data = known_fields(DataSummary, stored.get("data", {}))
    values["data"] = DataSummary(**data | {"gc": stored_number(data.get("gc"))})
    values["split"] = SplitSummary(**known_fields(SplitSummary, stored.get("split", {})))
    values["baselines"] = stored_baselines(stored.get("baselines", {}))
    values["attributions"] = [_attribution(entry) for entry in stored.get("attributions", [])]
    return Results(**values)


def _attribution(entry: dict[str, Any]) -> Attribution:
    values = known_fields(Attribution, entry)
    values["probability"] = stored_number(values.get("probability"))
    values["scores"] = [stored_number(score) for score in values["scores"]]
    return Attribution(**values)
