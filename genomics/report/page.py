"""From the files of a run to one HTML page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from genomics.palette import DARK, LIGHT
from genomics.report import evidence, performance, summary
from genomics.report.history import read_history
from genomics.report.markup import Html, join, tag
from genomics.results import FILE_NAME as RESULTS
from genomics.results import Results
from seqmamba.atomic import atomic_path
from seqmamba.predictions import FILE_NAME as PREDICTIONS
from seqmamba.predictions import Predictions

MAX_CONFIG = 60_000  # characters; a longer configuration stays in its file


def write_report(run_dir: str | Path) -> Path:
    """Draw the report of a run from the files in its folder.

    Reads results.json and, where they exist, metrics.csv, predictions.tsv and config.yaml. The page needs
    neither network nor scripts, and the same files always give the same page.

    Args:
        run_dir: The run folder.

    Returns:
        The page, ``RUN/report.html``.

    Raises:
        UserError: results.json is missing or a file is damaged.
    """
    run = Path(run_dir)
    results = Results.load(run / RESULTS)
    table = run / PREDICTIONS
    test = Predictions.load(table, results.task, results.classes).part("test") if table.exists() else None
    config = run / "config.yaml"
    text = config.read_text(encoding="utf-8", errors="replace")[:MAX_CONFIG] if config.exists() else None
    history = read_history(run / "metrics.csv")
    sections = [
        summary.verdict(results, test),
        summary.tiles(results),
        summary.baselines(results),
        performance.performance(test) if test is not None else None,
        performance.mistakes(test) if test is not None else None,
        evidence.attributions(results),
        evidence.data(results),
        performance.training(history),
        evidence.reproduction(results, text),
    ]
    target = run / "report.html"
    with atomic_path(target) as part:
        part.write_text(_document(results, sections), encoding="utf-8")
    return target


def _document(results: Results, sections: list[Html | None]) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", results.title),
        tag("style", Html(_style())),
    )
    footer = tag("footer", tag("p", "Drawn by seqmamba from the files beside this page. Intervals are 95 %."))
    body = tag("body", tag("main", summary.heading(results), *sections, footer))
    return "<!DOCTYPE html>\n" + join([tag("html", head, body, lang="en")])


def _style() -> str:
    light = "".join(f"--{name.replace('_', '-')}:{colour};" for name, colour in LIGHT.items())
    dark = "".join(f"--{name.replace('_', '-')}:{colour};" for name, colour in DARK.items())
    rules = (files("genomics.report") / "style.css").read_text(encoding="utf-8")
    themes = f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"
    return f"\n{themes}\n{rules}"
