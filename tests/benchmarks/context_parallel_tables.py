"""The results of `context_parallel` as Markdown."""

from __future__ import annotations

from typing import Any


def markdown(found: dict[str, Any]) -> str:
    """Return tables of what was measured.

    Args:
        found: Content of results.json.
    """
    parts = [f"# Several GPUs of one host\n\n{found['device']}, PyTorch {found['torch']}."]
    parts += [_context(found), _data(found), _correct(found), _fault(found), _runs(found)]
    return "\n\n".join(part for part in parts if part)


def _rows(found: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    return [
        {"ranks": each["ranks"], **row}
        for each in found["stages"]
        if each["stage"] == stage
        for row in each["rows"]
    ]


def _context(found: dict[str, Any]) -> str:
    rows = _rows(found, "context")
    one = {(row["length"], row["recompute"]): row["tokens_s"] for row in rows if row["ranks"] == 1}
    cells = []
    for row in sorted(rows, key=lambda row: (row["length"], row["recompute"], row["ranks"])):
        alone = one.get((row["length"], row["recompute"]))
        cells.append(
            [
                f"{row['length']:,}",
                "recomputed" if row["recompute"] else "kept",
                str(row["ranks"]),
                f"{row['tokens_s'] / 1e3:,.1f}",
                _number(row.get("peak_gib"), "{:.1f}"),
                _number(row.get("communication_seconds"), "{:.4f}"),
                _number(row["seconds"], "{:.4f}"),
                _share(row["tokens_s"], alone, row["ranks"]),
            ]
        )
    head = [
        "tokens",
        "activations",
        "ranks",
        "10^3 tokens/s",
        "GiB a GPU",
        "s in NCCL",
        "s a step",
        "efficiency",
    ]
    return _table("Context parallel: one window shared out by all ranks", head, cells)


def _data(found: dict[str, Any]) -> str:
    rows = _rows(found, "data")
    one = {row["kind"]: row["tokens_s"] for row in rows if row["ranks"] == 1}
    cells = [
        [
            row["kind"],
            str(row["ranks"]),
            f"{row['tokens_s'] / 1e3:,.1f}",
            _number(row.get("peak_gib"), "{:.1f}"),
            _share(row["tokens_s"], one.get("replicas"), row["ranks"]),
        ]
        for row in rows
    ]
    head = ["parameters", "ranks", "10^3 tokens/s", "GiB a GPU", "efficiency"]
    return _table("Data parallel: a window of 131,072 tokens on each rank", head, cells)


def _correct(found: dict[str, Any]) -> str:
    names = ("loss_difference", "gradient_difference", "error_of_one_process", "error_of_ranks")
    cells = [
        [row["mixer"], row["direction"], row["dtype"], str(row["ranks"]), *(f"{row[n]:.1e}" for n in names)]
        for row in _rows(found, "correct")
    ]
    head = ["mixer", "direction", "dtype", "ranks", "loss", "gradient", "one process, error", "ranks, error"]
    return _table("Ranks against one process, relative; errors are from float32", head, cells)


def _fault(found: dict[str, Any]) -> str:
    fault = found.get("fault")
    if not fault:
        return ""
    lines = [f"- {name}: {value}" for name, value in fault.items() if name != "said"]
    said = "\n".join(fault.get("said", []))
    return "## A killed rank\n\n" + "\n".join(lines) + f"\n\n```\n{said}\n```"


def _runs(found: dict[str, Any]) -> str:
    cells = [
        [each["stage"], str(each["ranks"]), str(each["status"]), f"{each['seconds']:.0f}"]
        for each in found["stages"]
    ]
    return _table("Processes", ["stage", "ranks", "exit status", "s"], cells)


def _table(title: str, head: list[str], cells: list[list[str]]) -> str:
    if not cells:
        return ""
    rows = [head, ["---"] * len(head), *cells]
    return f"## {title}\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _share(tokens: float, alone: float | None, ranks: int) -> str:
    return "" if alone is None else f"{tokens / (alone * ranks):.0%}"
