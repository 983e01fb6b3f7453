"""Tables of benchmark tasks that have protocols of their own: variants and binned tracks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from seqmamba.atomic import atomic_path
from seqmamba.metrics import Estimate
from seqmamba.plain_json import to_json


@dataclass(frozen=True)
class TaskRow:
    """One number of a table.

    Attributes:
        model: What was fitted on the frozen model, or its score.
        protocol: ``paper`` or ``sound``.
        part: Bucket of variants, or track.
        metric: Name of the metric.
        seeds: Number of seeds.
        trained: Rows or bins of training; 0 where nothing is trained.
        tested: Rows or bins of the test.
        value: The number, the mean over seeds, with its 95 % interval.
        spread: Largest minus smallest over seeds; NaN for one.
        note: What else to know, in words.
    """

    model: str
    protocol: str
    part: str
    metric: str
    seeds: int
    trained: int
    tested: int
    value: Estimate
    spread: float = float("nan")
    note: str = ""


def write_rows(
    name: str, rows: Sequence[TaskRow], quirks: Mapping[str, str], facts: Mapping[str, str], output: Path
) -> str:
    """Write ``table.md`` and ``table.json``, each whole or not at all.

    Args:
        name: The task.
        rows: The numbers.
        quirks: What the paper's protocol does that one would not, by name.
        facts: What else belongs to the numbers, such as the frozen model.
        output: Folder to write to.

    Returns:
        The table as Markdown.
    """
    content = {"task": name, **facts, "rows": [asdict(row) for row in rows], "quirks": dict(quirks)}
    with atomic_path(output / "table.json") as part:
        part.write_text(json.dumps(to_json(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = _markdown(name, rows, quirks, facts)
    with atomic_path(output / "table.md") as part:
        part.write_text(text, encoding="utf-8")
    return text


def _markdown(name: str, rows: Sequence[TaskRow], quirks: Mapping[str, str], facts: Mapping[str, str]) -> str:
    lines = [f"# {name}", "", *(f"{fact}: {value}  " for fact, value in facts.items()), ""]
    lines.append(
        "| model | protocol | part | metric | seeds | trained | tested | value | 95 % | max - min | |"
    )
    lines.append("|---" * 11 + "|")
    for row in rows:
        interval = f"{row.value.low:.4f} to {row.value.high:.4f}" if np.isfinite(row.value.low) else ""
        spread = f"{row.spread:.4f}" if np.isfinite(row.spread) else ""
        lines.append(
            f"| {row.model} | {row.protocol} | {row.part} | {row.metric} | {row.seeds} | {row.trained:,} "
            f"| {row.tested:,} | {row.value.value:.4f} | {interval} | {spread} | {row.note} |"
        )
    if quirks:
        lines += ["", "The paper's protocol:", ""]
        lines += [f"- {quirk}: {meaning}" for quirk, meaning in quirks.items()]
    return "\n".join(lines) + "\n"
