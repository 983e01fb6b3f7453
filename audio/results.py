"""What a finished run knows about itself: the contents of ``results.json``.

`audio.evaluation` fills a `Results` after the test pass, so that tables and reports are functions of files.
Numbers that do not exist are NaN in memory and ``null`` in the file, because JSON has no NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.plain_json import to_json

FORMAT_VERSION = 1


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
class BaselineSummary:
    """A simple model trained on the same split.

    Attributes:
        metrics: Metric name to test estimate, the same names as the model's.
        seconds: Training plus evaluation time.
    """

    metrics: dict[str, Estimate] = field(default_factory=dict)
    seconds: float = math.nan


@dataclass(frozen=True)
class Results:
    """Everything about a run but its curves (metrics.csv) and single predictions (predictions.tsv).

    Attributes:
        task: ``classification``, ``multilabel`` or ``regression``.
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
            return _from_json(json.loads(source.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(f"{source}: no such file", hint="a run has results once it was tested") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source}: expected the results of a run, got {error!r}") from None


def _from_json(stored: dict[str, Any]) -> Results:
    values = _known(Results, stored)
    values["classes"] = tuple(stored["classes"])
    values["seconds"] = _number(stored.get("seconds"))
    values["data"] = DataSummary(**_known(DataSummary, stored.get("data", {})))
    values["split"] = SplitSummary(**_known(SplitSummary, stored.get("split", {})))
    values["metrics"] = _estimates(stored.get("metrics", {}))
    values["rates"] = {name: _estimates(entry) for name, entry in stored.get("rates", {}).items()}
    values["baselines"] = {
        name: BaselineSummary(_estimates(entry.get("metrics", {})), _number(entry.get("seconds")))
        for name, entry in stored.get("baselines", {}).items()
    }
    return Results(**values)


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
