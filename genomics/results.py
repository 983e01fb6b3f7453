"""What a finished run knows about itself: the contents of ``results.json``.

`genomics.evaluation` fills a `Results` after the test pass and `genomics.report` draws it, so the report is a
pure function of files and can be drawn again at any time, on any machine, without the model or the data.

Every part but the title, the task and the classes has a default that means "not known"; the report leaves
such a part out. Numbers that do not exist (a correlation of one sequence) are NaN in memory and ``null`` in
the file, because JSON has no NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from genomics.metrics import Estimate
from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.plain_json import to_json as to_json

FORMAT_VERSION = 1
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
class BaselineSummary:
    """A simple model trained on the same split.

    Attributes:
        metrics: Metric name to test estimate, the same names as the model's.
        seconds: Training plus evaluation time.
    """

    metrics: dict[str, Estimate] = field(default_factory=dict)
    seconds: float = math.nan


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
        """Write the results as JSON, whole or not at all.

        Args:
            path: The file to write, usually ``RUN/results.json``.

        Returns:
            The path written.
        """
        target = Path(path)
        text = json.dumps({"format": FORMAT_VERSION, **to_json(asdict(self))}, indent=1, allow_nan=False)
        with atomic_path(target) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
        return target

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read what `save` wrote.

        Args:
            path: A ``results.json``.

        Returns:
            The results; keys that this version does not know are ignored.

        Raises:
            UserError: The file is missing, is not JSON, or is not a results file.
        """
        source = Path(path)
        try:
            stored = json.loads(source.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{source}: no such file", hint="a run has results once `seqmamba test` has ended"
            ) from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{source}: expected JSON results, got {error}") from None
        try:
            return _from_json(stored)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source}: expected the results of a run, got {error!r}") from None


def _from_json(stored: dict[str, Any]) -> Results:
    values = _known(Results, stored)
    values["classes"] = tuple(stored["classes"])
    values["seconds"] = _number(stored.get("seconds"))
    values["metrics"] = _estimates(stored.get("metrics", {}))
    values["model"] = ModelSummary(**_known(ModelSummary, stored.get("model", {})))
    data = _known(DataSummary, stored.get("data", {}))
    values["data"] = DataSummary(**data | {"gc": _number(data.get("gc"))})
    values["split"] = SplitSummary(**_known(SplitSummary, stored.get("split", {})))
    values["baselines"] = {
        name: BaselineSummary(_estimates(entry.get("metrics", {})), _number(entry.get("seconds")))
        for name, entry in stored.get("baselines", {}).items()
    }
    values["attributions"] = [_attribution(entry) for entry in stored.get("attributions", [])]
    return Results(**values)


def _attribution(entry: dict[str, Any]) -> Attribution:
    values = _known(Attribution, entry)
    values["probability"] = _number(values.get("probability"))
    values["scores"] = [_number(score) for score in values["scores"]]
    return Attribution(**values)


def _estimates(stored: dict[str, dict[str, float | None]]) -> dict[str, Estimate]:
    return {
        name: Estimate(_number(entry["value"]), _number(entry.get("low")), _number(entry.get("high")))
        for name, entry in stored.items()
    }


def _known(owner: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(owner)}
    return {name: value for name, value in stored.items() if name in names}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
