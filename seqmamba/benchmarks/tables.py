"""Results as text for a terminal and as Markdown for a document; both read the JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_TIMES = ("", "no grad", "forward", "backward", "sum ms")
_RATES = ("ratio", "GB/s", "of floor", "saved", "peak", "ns/el.", "error")
_MARKDOWN_COLUMNS = (
    "batch x length x channels",
    "implementation",
    "forward",
    "backward",
    "sum",
    "speed",
    "of the floor",
    "extra memory",
)


def comparison_text(comparison: dict[str, Any], against: str | None) -> str:
    """One shape for the terminal: aligned columns, then a line for each candidate without a time."""
    floor = comparison["floors"]["sum"]
    bounds = [f"memory {floor['memory_ms']:.3g} ms"]
    if floor["exponentials_ms"] is not None:
        bounds.append(f"exponentials {floor['exponentials_ms']:.3g} ms")
    ok = sorted(_with_status(comparison, "ok"), key=_sum)
    lines = [f"{comparison['shape']}   floor of forward + backward: {', '.join(bounds)}"]
    if ok:
        lines += _aligned([(*_TIMES, *_RATES), *(_cells(row) for row in ok)])
        notes = [] if against is None else [f"ratio: how many times faster than {against}"]
        if comparison["noise"] is not None:
            notes.append(f"the same candidate timed twice differs by {100 * comparison['noise']:.1f} %")
        lines += [f"  ({'; '.join(notes)})"] if notes else []
    for row in comparison["rows"]:
        if row["status"] != "ok":
            lines.append(f"  {row['status']:7} {row['name']}: {row.get('detail', '')}")
    return "\n".join(lines)


def header_text(document: dict[str, Any]) -> str:
    """What ran on what, in two lines."""
    hardware = document["hardware"]
    rates = [f"{hardware['copy_bytes_per_second'] / 1e9:.0f} GB/s copied"]
    if hardware["exponentials_per_second"] is not None:
        rates.append(f"{hardware['exponentials_per_second'] / 1e12:.2f} T exponentials/s")
    return (
        f"bench {document['operator']}: {_conditions(document)}\n{', '.join(rates)}, seed {document['seed']}"
    )


def markdown(document: dict[str, Any]) -> str:
    """A table with every shape of a document, and below it what was measured on what.

    Args:
        document: As `seqmamba.benchmarks.results.read` gives it.

    Returns:
        Markdown without a line end behind it; the same document always gives the same text.
    """
    rows: list[Sequence[str]] = [_MARKDOWN_COLUMNS, ["---"] * len(_MARKDOWN_COLUMNS)]
    for comparison in document["comparisons"]:
        shape = comparison["shape"].replace("x", " x ")
        for row in sorted(_with_status(comparison, "ok"), key=_sum):
            rows.append(_markdown_cells(shape, row))
            shape = ""
        for status in ("OOM", "FAIL"):
            for row in _with_status(comparison, status):
                rows.append([shape, _markdown_name(row), *[""] * 2, status, *[""] * 3])
                shape = ""
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{table}\n\n{_footnote(document)}"


def _footnote(document: dict[str, Any]) -> str:
    errors = [
        max(row["errors"].values())
        for comparison in document["comparisons"]
        for row in _with_status(comparison, "ok")
        if row["kind"] == "seqmamba"
    ]
    noise = [comparison["noise"] for comparison in document["comparisons"] if comparison["noise"] is not None]
    against = document["against"]
    sentences = [f"Milliseconds, medians; {_conditions(document)}; {document['date'][:10]}."]
    if against is not None:
        sentences.append(f"Speed is against {against}.")
    if errors:
        sentences.append(f"Outputs and all gradients of ours are within {max(errors):.0e} of float64.")
    if noise:
        sentences.append(f"The same kernel timed twice differs by at most {100 * max(noise):.0f} %.")
    sentences.append(f"`{document['command']}` repeats it.")
    return " ".join(sentences)


def _conditions(document: dict[str, Any]) -> str:
    hardware, versions = document["hardware"], document["versions"]
    parts = [hardware["name"]]
    if hardware["device"] == "cpu":
        parts.append(f"{hardware['threads']} threads")
        if document.get("load_before") is not None:
            parts.append(f"load {document['load_before']:.1f} before")
    parts += [document["dtype"], *(f"{name} {size}" for name, size in document["widths"].items())]
    parts.append(f"torch {versions['torch']}")
    return ", ".join(parts)


def _with_status(comparison: dict[str, Any], status: str) -> list[dict[str, Any]]:
    return [row for row in comparison["rows"] if row["status"] == status]


def _sum(row: dict[str, Any]) -> float:
    return float(row["times"]["sum"]["median_ms"])


def _cells(row: dict[str, Any]) -> list[str]:
    times, memory = row["times"], row.get("memory")
    name = row["name"] if row["kind"] == "seqmamba" else f"[{row['name']}]"
    return [
        name,
        *(_milliseconds(times, phase) for phase in ("inference", "forward", "backward", "sum")),
        _ratio(row),
        f"{times['sum']['gigabytes_per_second']:.0f}",
        f"{100 * times['sum']['fraction_of_floor']:.0f} %",
        _share(memory, "saved_share"),
        _share(memory, "peak_share"),
        f"{row['ns_per_element']:.3g}",
        f"{max(row['errors'].values()):.0e}",
    ]


def _markdown_cells(shape: str, row: dict[str, Any]) -> list[str]:
    times, memory = row["times"], row.get("memory")
    share = _share(memory, "peak_share")
    return [
        shape,
        _markdown_name(row),
        *(_rounded(times[phase]["median_ms"]) for phase in ("forward", "backward", "sum")),
        _ratio(row),
        f"{100 * times['sum']['fraction_of_floor']:.0f} %",
        f"{_share(memory, 'saved_share')} (saved)" if share == "-" else share,
    ]


def _markdown_name(row: dict[str, Any]) -> str:
    return f"**{row['name']}**" if row["kind"] == "seqmamba" else str(row["name"])


def _milliseconds(times: dict[str, Any], phase: str) -> str:
    return f"{times[phase]['median_ms']:.4g}" if phase in times else "-"


def _ratio(row: dict[str, Any]) -> str:
    return "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"


def _share(memory: dict[str, Any] | None, name: str) -> str:
    return "-" if memory is None or memory[name] is None else f"{memory[name]:.2f}x"


def _rounded(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    cells = list(rows)
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for name, *numbers in cells:
        columns = (f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join(["", name.ljust(widths[0]), *columns]))
    return lines
