"""How a run came about: the division of its data, the command, the configuration and the versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqmamba.report.markup import Html, table, tag
from seqmamba.report.verdict import Run
from seqmamba.stratify import PARTS

MAX_CLASS_ROWS = 60
MAX_CONFIG = 60_000  # characters; a longer configuration stays in its file


def read_config(path: Path) -> str | None:
    """Return the text of ``config.yaml``, cut where it is very long; None where there is no such file."""
    return path.read_text(encoding="utf-8", errors="replace")[:MAX_CONFIG] if path.exists() else None


def reproduction(
    command: str, versions: Mapping[str, str], config: str | None, model: Mapping[str, Any]
) -> Html | None:
    """Write the command, the configuration and the versions.

    Args:
        command: The command line.
        versions: Package name to version.
        config: The text of ``config.yaml``.
        model: The model's configuration, to show where there is no such text.
    """
    pieces: list[Html] = []
    if command:
        pieces += [tag("h3", "Command"), tag("pre", tag("code", command), tabindex="0")]
    if versions:
        items = (tag("li", f"{name} {version}") for name, version in versions.items())
        pieces += [tag("h3", "Versions"), tag("ul", *items, class_="facts")]
    name, text = "config.yaml", config
    if not text and model:
        name, text = "the model's", json.dumps(model, indent=2)
    if text:
        listing = tag("pre", tag("code", text.strip()), tabindex="0")
        pieces.append(tag("details", tag("summary", f"Complete configuration ({name})"), listing))
    return tag("section", tag("h2", "Make it again"), *pieces) if pieces else None


def split_card(results: Run, item: str, title: str) -> Html | None:
    """Write how many items of each class the parts hold.

    Args:
        results: A finished run.
        item: What is classified, in the singular.
        title: Of the card.
    """
    counts = results.split.counts
    if not counts:
        return None
    parts = [part for part in PARTS if part in counts] + [part for part in counts if part not in PARTS]
    classes = list(dict.fromkeys(name for part in parts for name in counts[part]))
    rows: list[list[object]] = [
        [
            f"{item.capitalize()}s" if results.task == "regression" else name,
            *(f"{counts[p].get(name, 0):,}" for p in parts),
        ]
        for name in classes[:MAX_CLASS_ROWS]
    ]
    totals = [sum(counts[part].values()) for part in parts]
    if len(classes) > MAX_CLASS_ROWS:
        rest = classes[MAX_CLASS_ROWS:]
        rows.append(
            [f"{len(rest)} more classes", *(f"{sum(counts[p].get(c, 0) for c in rest):,}" for p in parts)]
        )
    if len(classes) > 1 and results.task not in ("multilabel", "tagging"):
        share = [f"{total:,} ({total / max(sum(totals), 1):.0%})" for total in totals]
        rows.append([tag("strong", "All"), *(tag("strong", text) for text in share)])
    first = {"regression": "Part", "multilabel": "Label", "tagging": "Label"}.get(results.task, "Class")
    return tag("div", tag("h3", title), table([first, *parts], rows, caption=title), class_="card")
