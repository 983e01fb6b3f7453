"""What a run found, and the JSON file that keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seqmamba.atomic import atomic_path
from seqmamba.benchmarks.floors import Floor
from seqmamba.benchmarks.timing import Memory, Spread
from seqmamba.errors import UserError

SCHEMA = 1
Status = Literal["ok", "FAIL", "OOM", "absent", "skipped", "error"]


@dataclass
class Row:
    """One candidate at one shape.

    Attributes:
        name: Of the candidate.
        kind: "seqmamba" or "peer".
        status: Times count only where it is "ok"; "FAIL" is a wrong result.
        detail: Why the status is not "ok".
        errors: ||result - float64|| / ||float64|| of y and every gradient.
        times: Spread of each phase, in milliseconds.
        memory: What it takes beside inputs, result and gradients.
    """

    name: str
    kind: str
    status: Status
    detail: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    times: dict[str, Spread] = field(default_factory=dict)
    memory: Memory | None = None


@dataclass
class Comparison:
    """All candidates at one shape.

    Attributes:
        shape: As the command line writes it.
        elements: Channels times steps times batch.
        inputs: Bytes of the arguments.
        tolerance: Of the check.
        floors: For each phase.
        rows: Of the candidates, ours first.
        noise: How much the first timed candidate differs from itself when timed again at the end, relative.
    """

    shape: str
    elements: int
    inputs: int
    tolerance: float
    floors: dict[str, Floor]
    rows: list[Row]
    noise: float | None = None


def rank(rows: list[Row], against: str | None) -> tuple[list[Row], dict[str, float]]:
    """Order candidates by their time and compare each with one of them.

    Args:
        rows: Of one comparison.
        against: The candidate that counts as one; None or one without a time leaves the ratios out.

    Returns:
        The rows, the fastest first and those without a time last in their old order; and for each timed
        candidate how many times faster it is than `against`, forward and backward together.
    """
    timed = sorted((row for row in rows if row.status == "ok"), key=lambda row: row.times["sum"].median)
    others = [row for row in rows if row.status != "ok"]
    base = next((row.times["sum"].median for row in timed if row.name == against), None)
    ratios = {} if base is None else {row.name: base / row.times["sum"].median for row in timed}
    return [*timed, *others], ratios


def as_document(header: dict[str, Any], comparisons: list[Comparison], against: str | None) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "schema": SCHEMA,
        **header,
        "against": against,
        "comparisons": [_comparison_document(comparison, against) for comparison in comparisons],
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the file, all or nothing."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a file that `write` wrote.

    Raises:
        UserError: It is no such file.
    """
    try:
        document = json.loads(path.read_text())
    except ValueError as failure:
        raise UserError(f"{path}: is not JSON: {failure}") from failure
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: is no benchmark file of schema {SCHEMA}",
            hint="write one with seqmamba bench ... -o FILE",
        )
    return document


def _comparison_document(comparison: Comparison, against: str | None) -> dict[str, Any]:
    _, ratios = rank(comparison.rows, against)
    return {
        "shape": comparison.shape,
        "elements": comparison.elements,
        "inputs_bytes": comparison.inputs,
        "tolerance": comparison.tolerance,
        "noise": comparison.noise,
        "floors": {
            phase: {"bytes": floor.size, "memory_ms": floor.memory, "exponentials_ms": floor.exponentials}
            for phase, floor in comparison.floors.items()
        },
        "rows": [_row_document(row, comparison, ratios.get(row.name)) for row in comparison.rows],
    }


def _row_document(row: Row, comparison: Comparison, ratio: float | None) -> dict[str, Any]:
    document: dict[str, Any] = {"name": row.name, "kind": row.kind, "status": row.status}
    if row.detail:
        document["detail"] = row.detail
    if row.errors:
        document["errors"] = row.errors
    if row.status != "ok":
        return document
    document["ratio"] = ratio
    document["ns_per_element"] = 1e6 * row.times["sum"].median / comparison.elements
    document["times"] = {
        phase: {
            "median_ms": spread.median,
            "best_ms": spread.best,
            "worst_ms": spread.worst,
            "gigabytes_per_second": comparison.floors[phase].size / spread.median / 1e6,
            "fraction_of_floor": comparison.floors[phase].milliseconds / spread.median,
            "samples_ms": list(spread.samples),
        }
        for phase, spread in row.times.items()
    }
    if row.memory is not None:
        document["memory"] = {
            "saved_bytes": row.memory.saved,
            "peak_bytes": row.memory.peak,
            "saved_share": row.memory.saved / comparison.inputs,
            "peak_share": None if row.memory.peak is None else row.memory.peak / comparison.inputs,
        }
    return document
