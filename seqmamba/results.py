"""What the ``results.json`` of every domain has in common: how it is written and read, and its numbers.

Numbers that do not exist (a correlation of one sequence) are NaN in memory and ``null`` in the file, because
JSON has no NaN.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from seqmamba.atomic import atomic_path
from seqmamba.errors import UserError
from seqmamba.metrics import Estimate
from seqmamba.plain_json import to_json

FORMAT_VERSION = 1

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class BaselineSummary:
    """A simple model trained on the same split.

    Attributes:
        metrics: Metric name to test estimate, the same names as the model's.
        seconds: Training plus evaluation time.
    """

    metrics: dict[str, Estimate] = field(default_factory=dict)
    seconds: float = math.nan


def how_made() -> dict[str, str]:
    """Return when results are made, ``created`` in ISO 8601, and by which ``command`` line."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"created": now, "command": shlex.join(["seqmamba", *sys.argv[1:]])}


def save_results(results: Any, path: str | Path) -> Path:
    """Write results as JSON, whole or not at all.

    Args:
        results: A dataclass.
        path: The file to write, usually ``RUN/results.json``.

    Returns:
        The path written.
    """
    target = Path(path)
    text = json.dumps({"format": FORMAT_VERSION, **to_json(asdict(results))}, indent=1, allow_nan=False)
    with atomic_path(target) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return target


def load_results(path: str | Path, read: Callable[[dict[str, Any]], Loaded]) -> Loaded:
    """Read what `save_results` wrote.

    Args:
        path: A ``results.json``.
        read: Makes the results of what the file holds.

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
        return read(stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{source}: expected the results of a run, got {error!r}") from None


def known_fields(owner: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a stored object a dataclass has fields for; a later version's keys are ignored."""
    names = {entry.name for entry in fields(owner)}
    return {name: value for name, value in stored.items() if name in names}


def stored_number(value: float | None) -> float:
    """Return a number as it was before it was stored."""
    return math.nan if value is None else float(value)


def stored_estimates(stored: Mapping[str, Mapping[str, float | None]]) -> dict[str, Estimate]:
    """Return metrics as they were before they were stored."""
    return {
        name: Estimate(
            stored_number(entry["value"]), stored_number(entry.get("low")), stored_number(entry.get("high"))
        )
        for name, entry in stored.items()
    }


def stored_baselines(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, BaselineSummary]:
    """Return baselines as they were before they were stored."""
    return {
        name: BaselineSummary(stored_estimates(entry.get("metrics", {})), stored_number(entry.get("seconds")))
        for name, entry in stored.items()
    }
