"""What is recorded of a recipe's numbers: ``results.json`` in its folder.

The file has ``status``, ``note``, ``yardstick`` and ``rows``. A row is a number with where it comes from: a
published one, a baseline on the same split, or one of ours with the command, hardware and seeds. What nobody
recorded is null there and "not recorded" in print.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from seqmamba.errors import UserError

FILE = "results.json"
NOT_RECORDED = "not recorded"
ROLES = ("published", "baseline", "ours")
STATUSES = ("run", "short run", "not run", "no data")
"""Run as it stands; run shorter, smaller or on a part; not run yet; the data could not be fetched."""
DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Result:
    """One recorded number.

    Args:
        role: One of `ROLES`.
        model: What has the number, in words.
        metric: What was measured.
        value: The number.
        part: On which part of the data, or which task of several.
        interval: 95 % interval.
        source: Of a number that is not ours: where it is from.
        config: Of ours: YAML file of the recipe.
        seeds: Of ours.
        command: Of ours: the training, or the scoring of a finished model.
        commit: Of ours: the code that ran.
        recorded_in: Of ours: commit that put the number into this repository.
        hardware: Of ours.
        device: Of ours: ``cpu`` or ``gpu``.
        minutes: Of ours: one training.
        headline: Whether it stands for the recipe in lists; at most one of ours and one of the others does.
    """

    role: str
    model: str
    metric: str
    value: float
    part: str | None = None
    interval: tuple[float, float] | None = None
    source: str | None = None
    config: str | None = None
    seeds: tuple[int, ...] | None = None
    command: str | None = None
    commit: str | None = None
    recorded_in: str | None = None
    hardware: str | None = None
    device: str | None = None
    minutes: float | None = None
    headline: bool = False


@dataclass(frozen=True)
class RecipeResults:
    """Everything that is recorded of a recipe.

    Args:
        status: One of `STATUSES`.
        rows: The numbers, in the order in which they are to be read.
        note: What a reader of the numbers has to know: what was shortened, or what was run instead.
        yardstick: What stands in for a number to beat, if there is none.
    """

    status: str
    rows: tuple[Result, ...] = ()
    note: str | None = None
    yardstick: str | None = None

    @property
    def ours(self) -> Result | None:
        """Our number for lists."""
        return next((row for row in self.rows if row.headline and row.role == "ours"), None)

    @property
    def to_beat(self) -> Result | None:
        """The published number or the baseline for lists."""
        return next((row for row in self.rows if row.headline and row.role != "ours"), None)

    def minutes(self, device: str) -> float | None:
        """Return the minutes of a training: of the number for lists, else of the first row that has some.

        Args:
            device: ``cpu`` or ``gpu``.
        """
        rows = sorted((row for row in self.rows if row.device == device), key=lambda row: not row.headline)
        return next((row.minutes for row in rows if row.minutes is not None), None)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as it stands in the file, null for what is not recorded."""
        return asdict(self)


def read_results(folder: Path) -> RecipeResults:
    """Read what is recorded in a recipe's folder.

    Args:
        folder: The recipe's folder.

    Returns:
        The results.

    Raises:
        UserError: If there is no such file or it is not of this form.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        rows = tuple(_row(row) for row in content.pop("rows"))
        results = RecipeResults(rows=rows, **content)
    except OSError as failure:
        raise UserError(f"{path}: cannot be read ({failure.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError(f"{path}: does not hold results of a recipe ({failure})") from None
    problem = _problem(results)
    if problem is not None:
        raise UserError(f"{path}: {problem}")
    return results


def _row(content: dict[str, Any]) -> Result:
    for field in fields(Result):
        if isinstance(content.get(field.name), list):
            content = {**content, field.name: tuple(content[field.name])}
    return Result(**content)


def _problem(results: RecipeResults) -> str | None:
    """Say in words what is wrong with results that have the right form, if anything is."""
    if results.status not in STATUSES:
        return f"expected a status of {', '.join(STATUSES)}, got {results.status!r}"
    headlines = [row for row in results.rows if row.headline]
    if len({(row.metric, row.part) for row in headlines}) > 1:
        return "the headlines compare different metrics or parts"
    if any(sum((row.role == "ours") is ours for row in headlines) > 1 for ours in (True, False)):
        return "more than one headline on one side"
    for row in results.rows:
        if row.role not in ROLES:
            return f"expected a role of {', '.join(ROLES)}, got {row.role!r}"
        if row.device not in (None, *DEVICES):
            return f"expected a device of {', '.join(DEVICES)}, got {row.device!r}"
        if row.interval is not None and not row.interval[0] <= row.value <= row.interval[1]:
            return f"{row.model}: {row.value} lies outside of its interval"
        if row.role != "ours" and row.source is None:
            return f"{row.model}: says no source"
    return None
