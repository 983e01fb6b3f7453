"""The page of a cross-validation: every fold or speaker held out in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audio.cross_validation import FinishedRun, evaluate_pooled, pool, read_runs
from audio.report import recordings
from audio.report.classification import WORDING
from audio.report.data import data
from audio.report.sounds import SoundConfig, Sounds
from audio.results import SplitSummary
from seqmamba.metrics import Estimate
from seqmamba.report import performance, summary
from seqmamba.report.markup import Html, bdi, card, table, tag
from seqmamba.report.plots import comparison, short_name
from seqmamba.report.provenance import read_config, reproduction
from seqmamba.report.svg import figure_html
from seqmamba.report.verdict import Finding, capital
from seqmamba.report.words import count, metric_name, number, with_interval

MOST_METRICS = 5
MOST_DRAWN = 24
"""Rows of a figure of what was held out."""


def folds_page(folder: Path, config: SoundConfig) -> tuple[str, list[Html | None]]:
    """Return the title and the sections of the page of a cross-validation.

    Args:
        folder: The folder of the runs.
        config: How much sound the page may hold.

    Raises:
        UserError: If a file is damaged.
    """
    runs = read_runs(folder)
    title = folder.resolve().name
    if not runs:
        nothing = Finding("info", "No run is finished.", "The same command goes on with them.")
        return title, [summary.heading(title, [], WORDING), summary.verdict([nothing])]
    seeds = sorted({run.seed for run in runs})
    first = [run for run in runs if run.seed == seeds[0]]
    pooled = pool(first)
    results = replace(first[0].results, metrics=evaluate_pooled(pooled, seeds[0]), baselines={})
    sounds, recipe = Sounds(config), read_config(first[0].folder.config)
    facts = [
        count(len(first), f"held-out {runs[0].by}"),
        count(len(seeds), "seed"),
        count(len(pooled), "tested recording"),
        f"{count(results.parameters, 'parameter')} each",
        results.hardware,
    ]
    return title, [
        summary.heading(title, facts, WORDING),
        summary.verdict(judge(runs, results.metrics)),
        summary.tiles(results, WORDING.item),
        held_out(runs),
        performance.performance(pooled, WORDING.item),
        *recordings.sections(pooled, sounds),
        sounds.note(),
        data(replace(results, split=SplitSummary()), recipe),
        reproduction(results.command, results.versions, recipe, {}),
    ]


def judge(runs: Sequence[FinishedRun], pooled: Mapping[str, Estimate]) -> list[Finding]:
    """Say what the runs are worth together, how far they differ, and what of it the page draws.

    Args:
        runs: All of them.
        pooled: Metrics of those of the first seed together.
    """
    metric, by = next(iter(pooled)), runs[0].by
    name, seeds = metric_name(metric), sorted({run.seed for run in runs})
    values = [run.results.metrics[metric].value for run in runs]
    means = [np.mean([v for v, run in zip(values, runs, strict=True) if run.seed == seed]) for seed in seeds]
    headline = f"{name} is {number(float(np.mean(means)))} on the mean of what was held out."
    together = f"All recordings of seed {seeds[0]} together: {with_interval(pooled[metric])}."
    found = [Finding("info", headline, together)]
    spread = f"From {number(min(values))} to {number(max(values))} over {count(len(runs), 'run')}"
    found.append(Finding("info", f"How much depends on what is held out ({by})", f"{spread}."))
    if len(seeds) > 1:
        deviation = number(float(np.std(means, ddof=1)))
        text = f"Standard deviation of the means: {deviation}. Figures and recordings are of seed {seeds[0]}."
        found.append(Finding("info", f"How much depends on {len(seeds)} seeds", text))
    beside = _baseline_means(runs, metric)
    alike = f"Mean {name} on the same held-out recordings."
    found += [Finding("info", f"{words}: {number(value)}", alike) for words, value in beside]
    return found


def held_out(runs: Sequence[FinishedRun]) -> Html:
    """Write what was found on each fold or speaker that was held out: figures and a table."""
    by, baselines = runs[0].by, runs[0].results.baselines
    order = summary.metric_order(runs[0].results)
    metric, seeds = order[0], sorted({run.seed for run in runs})
    names = [f"{run.held_out}, seed {run.seed}" if len(seeds) > 1 else run.held_out for run in runs]
    single = {name: run.results.metrics[metric] for name, run in zip(names, runs, strict=True)}
    together = {
        f"seed {seed}": evaluate_pooled(pool([run for run in runs if run.seed == seed]), seed)[metric]
        for seed in seeds
    }
    header = ["Held out", "Seed", "Recordings", *(metric_name(name) for name in order[:MOST_METRICS])]
    header += [f"{WORDING.baseline(name).name}, {metric_name(metric)}" for name in baselines]
    rows = [
        [bdi(run.held_out), run.seed, f"{len(run.predictions):,}", *_cells(run, order[:MOST_METRICS])]
        for run in runs
    ]
    return tag(
        "section",
        tag("h2", f"Every {by} held out in turn"),
        tag(
            "div",
            _figure_card(f"{metric_name(metric)} of each run", single, "held-out"),
            _figure_card(f"{metric_name(metric)} of all held-out recordings together", together, "together"),
            class_="pair",
        ),
        table(header, rows, caption="Metrics of each run"),
    )


def _figure_card(title: str, estimates: Mapping[str, Estimate], key: str) -> Html:
    drawn = {short_name(name, 24): estimate for name, estimate in list(estimates.items())[:MOST_DRAWN]}
    spoken = "; ".join(f"{name} {with_interval(estimate)}" for name, estimate in drawn.items())
    figure = comparison(drawn, dict.fromkeys(drawn, "model"))
    return card(title, figure_html(figure, key, title=f"{title}, with 95 % intervals: {spoken}"))


def _cells(run: FinishedRun, order: Sequence[str]) -> list[Html]:
    """Return the metrics of a run, and the first of them of each simple model."""
    model = [summary.estimate_cell(run.results.metrics.get(name)) for name in order]
    simple = [summary.estimate_cell(b.metrics.get(order[0])) for b in run.results.baselines.values()]
    return model + simple


def _baseline_means(runs: Sequence[FinishedRun], metric: str) -> list[tuple[str, float]]:
    """Return the mean of a metric over runs for each simple model that all of them have."""
    found = []
    for name in runs[0].results.baselines:
        values = [run.results.baselines[name].metrics for run in runs if name in run.results.baselines]
        if len(values) == len(runs):
            mean = float(np.mean([value[metric].value for value in values]))
            found.append((capital(WORDING.baseline(name).phrase), mean))
    return found
