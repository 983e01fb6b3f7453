"""What a finished run knows about itself: the contents of ``results.json``.

`audio.evaluation` fills a `Results` after the test pass, so that tables and reports are functions of files.
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


@dataclass(frozen=True)
class DataSummary:
    """The recordings, all parts together.

    Attributes:
        n: Number of recordings.
        per_class: Recordings per class name; empty for regression.
        seconds: ``min``, ``median``, ``max`` and ``total`` duration.
        rate: Sampling rate that they were brought to, in Hz.
        channels: Their channels.
    """

    n: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rate: int = 0
    channels: int = 1


@dataclass(frozen=True)
class SplitSummary:
    """How the recordings were divided.

    Attributes:
        explanation: A sentence.
        counts: Part (``train``, ``validation``, ``test``) to class name to number of recordings; regression
            uses the single key ``all``.
    """

    explanation: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """Everything about a run but its curves (metrics.csv) and single predictions (predictions.tsv).

    Attributes:
        task: ``classification``, ``multilabel``, ``regression`` or ``tagging``.
        classes: Class names, or target names for regression.
        created: ISO 8601 date and time.
        command: The command line that made the run.
        seed: Random seed.
        hardware: One line.
        seconds: Wall-clock seconds of training and test.
        versions: Package name to version.
        parameters: Number of the model's parameters.
        model: The model's config as nested plain dictionaries.
        data: The recordings.
        split: How they were divided.
        metrics: Metric name to test estimate with its 95 % interval.
        baselines: ``log_mel`` to its results.
        rates: Sampling rate and way of meeting it, to test estimates; see `audio.rate_transfer`.
        notes: Sentences that the reader should know, for example about unreadable files.
    """

    task: str
    classes: tuple[str, ...]
    created: str = ""
    command: str = ""
    seed: int | None = None
    hardware: str = ""
    seconds: float = math.nan
    versions: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    data: DataSummary = field(default_factory=DataSummary)
    split: SplitSummary = field(default_factory=SplitSummary)
    metrics: dict[str, Estimate] = field(default_factory=dict)
    baselines: dict[str, BaselineSummary] = field(default_factory=dict)
    rates: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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
    values["data"] = DataSummary(**known_fields(DataSummary, stored.get("data", {})))
    values["split"] = SplitSummary(**known_fields(SplitSummary, stored.get("split", {})))
    values["metrics"] = stored_estimates(stored.get("metrics", {}))
    values["rates"] = {name: stored_estimates(entry) for name, entry in stored.get("rates", {}).items()}
    values["baselines"] = stored_baselines(stored.get("baselines", {}))
    return Results(**values)
