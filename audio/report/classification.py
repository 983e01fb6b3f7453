"""The page of a classifier, or of a model that gives numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from audio.report import recordings
from audio.report.data import data, data_and_settings
from audio.report.sounds import SoundConfig, Sounds
from audio.results import Results
from seqmamba.metrics import METRICS, Estimate
from seqmamba.predictions import Predictions
from seqmamba.report import performance, summary
from seqmamba.report.history import read_history
from seqmamba.report.markup import Html, bdi, table, tag
from seqmamba.report.provenance import read_config, reproduction
from seqmamba.report.verdict import (
    Finding,
    against_baselines,
    limits,
    overall,
    primary_metric,
    tested_count,
)
from seqmamba.report.words import MODEL_NAME, BaselineWords, Wording, metric_name
from seqmamba.training.run_folder import RunFolder

WORDING = Wording(
    "seqmamba · audio model",
    "recording",
    {"log_mel": BaselineWords("Log-mel statistics", "a linear model of log-mel statistics")},
)


UNTESTED = Finding("info", "No test results yet.", "Run `seqmamba test` to fill this page.")


def classification_page(folder: RunFolder, config: SoundConfig) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of a run's page.

    Args:
        folder: The run folder, tested or not.
        config: How much sound the page may hold.

    Raises:
        UserError: If a file is damaged.
    """
    if not folder.results.is_file():
        return _untested_page(folder)
    results = Results.load(folder.results)
    test = read_test(folder.predictions, results)
    sounds, recipe = Sounds(config), read_config(folder.config)
    title = summary.class_title(results.classes) or folder.path.resolve().name
    listened = recordings.sections(test, sounds) if test is not None and len(test) else []
    listened.append(sounds.note())
    return title, [
        summary.heading(title, summary.run_facts(results, results.parameters, WORDING), WORDING),
        summary.verdict(judge(results, test)),
        summary.tiles(results, WORDING.item),
        summary.baselines(results, WORDING),
        rates(results),
        performance.performance(test, WORDING.item) if test is not None else None,
        *listened,
        data(results, recipe),
        performance.training(read_history(folder.metrics)),
        reproduction(results.command, results.versions, recipe, results.model),
    ]


def read_test(path: Path, results: Results) -> Predictions | None:
    """Return the predictions of the test part; None if there are none, as of a tagger."""
    if results.task not in METRICS or not path.exists():
        return None
    return Predictions.load(path, results.task, results.classes).part("test")


def judge(results: Results, test: Predictions | None) -> list[Finding]:
    """Read a run's numbers.

    Args:
        results: A finished run.
        test: Its predictions of the test part.

    Returns:
        Findings; the first is the verdict, the others say what limits it.
    """
    metric = primary_metric(results)
    if metric is None:
        return [UNTESTED]
    n = tested_count(results, test)
    beside = against_baselines(results, metric, n, WORDING)
    found = [overall(results, metric, n, WORDING), *limits(results, n, WORDING)]
    return found if beside is None else [found[0], beside, *found[1:]]


def rates(results: Results) -> Html | None:
    """Write how the model does at other sampling rates; None if it was not tested at any."""
    if not results.rates:
        return None
    named: Mapping[str, Mapping[str, Estimate]] = {MODEL_NAME: results.metrics, **results.rates}
    order = summary.metric_order(results)
    rows = [
        [bdi(name), *(summary.estimate_cell(found.get(metric)) for metric in order)]
        for name, found in named.items()
    ]
    intro = (
        f"The same model, trained at {results.data.rate:,} Hz, tested at other sampling rates without "
        "training it again."
    )
    header = ["Input", *(metric_name(name) for name in order)]
    return tag(
        "section",
        tag("h2", "At other sampling rates"),
        tag("p", intro, class_="note"),
        table(header, rows, caption="Metrics at other sampling rates"),
    )


def _untested_page(folder: RunFolder) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of the page of a run that was not tested yet."""
    title, recipe = folder.path.resolve().name, read_config(folder.config)
    return title, [
        summary.heading(title, [], WORDING),
        summary.verdict([UNTESTED]),
        data_and_settings(recipe),
        performance.training(read_history(folder.metrics)),
        reproduction("", {}, recipe, {}),
    ]
