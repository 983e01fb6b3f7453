"""How recipes and their recorded numbers are printed: for a terminal, for machines, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from seqmamba.cli.recipe_results import NOT_RECORDED, RecipeResults, Result, read_results

if TYPE_CHECKING:
    from seqmamba.cli.recipes import Recipe

_SHORT = {
    "accuracy": "acc",
    "bits per sample": "bits",
    "segment accuracy": "acc",
    "masked loss": "loss",
    "Pearson's r": "r",
}
"""Names of metrics that are too long for a column."""
_HEADINGS = ("recipe", "task", "data", "licence", "CPU", "GPU", "metric", "to beat", "ours")
_FLEXIBLE = {1: 5, 2: 4, 3: 3}
"""Columns that a narrow terminal cuts, with their shares of the room that is left."""
_RIGHT = (4, 5, 7, 8)
_FOOTNOTE = "* a shorter run; times are those of one training; of losses and bits, less is better"


def listing(recipes: Iterable[Recipe], width: int | None) -> str:
    """Return a table with a line a recipe.

    Args:
        recipes: What to list.
        width: Columns of the terminal. Where all cells do not fit, recipes stand below their domain and long
            cells are cut. None: lines may have any length.

    Returns:
        The lines.
    """
    recipes = list(recipes)
    whole = [(recipe.name, *_cells(recipe, narrow=False)) for recipe in recipes]
    table = _aligned([_HEADINGS, *whole])
    if width is None or max(map(len, table)) <= width:
        return "\n".join([*table, _FOOTNOTE])
    names = [recipe.name.partition("/") for recipe in recipes]
    rows = [(name, *_cells(recipe, narrow=True)) for recipe, (_, _, name) in zip(recipes, names, strict=True)]
    heading, *lines = _aligned(_cut([_HEADINGS, *rows], width))
    text = [heading]
    for domain, group in groupby(zip(names, lines, strict=True), key=lambda pair: pair[0][0]):
        text += ["", domain, *(line for _, line in group)]
    return "\n".join([*text, _FOOTNOTE])


def _cut(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Cut the flexible columns, in proportion, so that a line has at most so many characters."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fixed = sum(width for index, width in enumerate(widths) if index not in _FLEXIBLE) + len(widths) - 1
    room, shares = max(width - fixed, 3 * len(_FLEXIBLE)), sum(_FLEXIBLE.values())
    limits = {index: room * share // shares for index, share in _FLEXIBLE.items()}
    return [
        [
            cell if len(cell) <= limits.get(index, len(cell)) else f"{cell[: limits[index] - 1].rstrip()}…"
            for index, cell in enumerate(row)
        ]
        for row in rows
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        " ".join(
            cell.rjust(width) if index in _RIGHT else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def as_json(recipe: Recipe) -> dict[str, Any]:
    """Return everything that is known of a recipe."""
    results = read_results(recipe.folder)
    return {
        "name": recipe.name,
        "task": recipe.task,
        "data": recipe.data,
        "split": recipe.split,
        "licence": recipe.licence,
        "configs": list(recipe.configs),
        "minutes": {device: results.minutes(device) for device in ("cpu", "gpu")},
        "results": results.as_json(),
    }


def results_text(results: RecipeResults) -> str:
    """Return the recorded numbers in full, a paragraph for each of ours."""
    lines = [f"status: {results.status}", *([f"note: {results.note}"] if results.note else [])]
    for row in results.rows:
        where = f", {row.part}" if row.part else ""
        lines.append(f"\n{row.role}: {row.model}: {row.metric} {number_text(row)}{where}")
        if row.role != "ours":
            lines.append(f"  source       {row.source}")
            continue
        seeds = None if row.seeds is None else ", ".join(map(str, row.seeds))
        facts = {
            "command": row.command,
            "commit": row.commit,
            "recorded in": row.recorded_in,
            "hardware": row.hardware,
            "seeds": seeds,
            "training": None if row.minutes is None else time_text(row.minutes),
        }
        lines += [f"  {name:12} {NOT_RECORDED if fact is None else fact}" for name, fact in facts.items()]
    return "\n".join(lines)


def markdown(recipes: Iterable[Recipe]) -> str:
    """Return the table of a README: a row a recipe, in order."""
    headings = ("recipe", "task", "data", "held out", "licence", "CPU", "GPU", "metric", "to beat", "ours")
    return _markdown_table(headings, (_markdown_cells(recipe) for recipe in recipes))


def provenance(recipes: Iterable[Recipe]) -> str:
    """Return a table of how our number of each recipe came about, for those that have one."""
    headings = ("recipe", "command", "seeds", "hardware", "commit of the run", "recorded in")
    rows = []
    for recipe in recipes:
        ours = read_results(recipe.folder).ours
        if ours is not None:
            seeds = None if ours.seeds is None else ", ".join(map(str, ours.seeds))
            command = None if ours.command is None else f"`{ours.command}`"
            facts = (command, seeds, ours.hardware, ours.commit, ours.recorded_in)
            rows.append((recipe.name, *(NOT_RECORDED if fact is None else fact for fact in facts)))
    return _markdown_table(headings, rows)


def _markdown_table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def number_text(row: Result) -> str:
    """Return a number with its interval."""
    value = f"{row.value:.3f}"
    return value if row.interval is None else f"{value} ({row.interval[0]:.3f} to {row.interval[1]:.3f})"


def time_text(minutes: float) -> str:
    """Return a time to read, as in ``36 s`` or ``3.7 min``."""
    return f"{60 * minutes:.0f} s" if minutes < 1 else f"{round(minutes, 1 if minutes < 10 else None):g} min"


def _cells(recipe: Recipe, *, narrow: bool) -> tuple[str, ...]:
    """Return the cells of a line but for the name."""
    return (recipe.task, recipe.data, recipe.licence, *_numbers(recipe, narrow=narrow))


def _numbers(recipe: Recipe, *, narrow: bool) -> Iterator[str]:
    """Yield the cells of times, metric, number to beat and our number."""
    results = read_results(recipe.folder)
    ours, to_beat = results.ours, results.to_beat
    for device in ("cpu", "gpu"):
        minutes = results.minutes(device)
        text = "-" if minutes is None else time_text(minutes)
        yield text.replace(" min", "m").replace(" s", "s") if narrow else text
    metric = _metric(results)
    yield _SHORT.get(metric, metric) if narrow else metric
    yield "-" if to_beat is None else f"{to_beat.value:.3f}"
    if ours is None:
        yield results.status
    else:
        yield f"{ours.value:.3f}{'*' if results.status == 'short run' else ' '}"


def _metric(results: RecipeResults) -> str:
    return next((row.metric for row in (results.ours, results.to_beat) if row is not None), "-")


def _markdown_cells(recipe: Recipe) -> Iterator[str]:
    results = read_results(recipe.folder)
    ours, to_beat = results.ours, results.to_beat
    cpu, gpu, metric, *_ = _numbers(recipe, narrow=False)
    part = next((row.part for row in (ours, to_beat) if row is not None), None)
    yield f"[{recipe.name}]({recipe.name})"
    yield from (recipe.task, recipe.data, recipe.split, recipe.licence)
    yield from (cpu, gpu)
    yield f"{metric}, {part}" if part else metric
    yield results.yardstick or "-" if to_beat is None else f"{to_beat.model}: {to_beat.value:.3f}"
    if ours is None:
        yield f"{results.status}. {results.note}" if results.note else results.status
    else:
        short = f"; short run. {results.note}" if results.status == "short run" else ""
        yield f"**{number_text(ours)}**, {ours.model}{short}"
