"""From the files of a run to one HTML page."""

from __future__ import annotations

from pathlib import Path

from genomics.palette import DARK, LIGHT
from genomics.report import evidence
from genomics.report.verdict import WORDING, judge
from genomics.results import FILE_NAME as RESULTS
from genomics.results import Results
from seqmamba.atomic import atomic_path
from seqmamba.predictions import FILE_NAME as PREDICTIONS
from seqmamba.predictions import Predictions
from seqmamba.report import performance, summary
from seqmamba.report.document import document
from seqmamba.report.history import read_history
from seqmamba.report.provenance import read_config, reproduction


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
    facts = summary.run_facts(results, results.model.parameters, WORDING)
    config, model = read_config(run / "config.yaml"), results.model.config
    sections = [
        summary.heading(results.title, facts, WORDING),
        summary.verdict(judge(results, test)),
        summary.tiles(results, WORDING.item),
        summary.baselines(results, WORDING),
        performance.performance(test, WORDING.item) if test is not None else None,
        performance.mistakes(test, WORDING.item) if test is not None else None,
        evidence.attributions(results),
        evidence.data(results),
        performance.training(read_history(run / "metrics.csv")),
        reproduction(results.command, results.versions, config, model),
    ]
    note = "Drawn by seqmamba from the files beside this page. Intervals are 95 %."
    target = run / "report.html"
    with atomic_path(target) as part:
        page = document(results.title, sections, note=note, light=LIGHT, dark=DARK)
        part.write_text(page, encoding="utf-8")
    return target
