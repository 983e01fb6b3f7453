"""The top of the page: title, verdict, headline numbers, comparison with simple models."""

from __future__ import annotations

import math

from genomics.plots import comparison
from genomics.report.markup import Html, join, table, tag
from genomics.report.svg import figure_html
from genomics.report.verdict import Finding, chance_level, judge, primary_metric
from genomics.report.words import (
    BASELINE_NAMES,
    METRIC_WORDS,
    MODEL_NAME,
    count,
    duration,
    interval,
    metric_name,
    number,
)
from genomics.results import Results
from seqmamba.metrics import METRICS, Estimate
from seqmamba.predictions import Predictions

ICONS = {"good": "✓", "info": "i", "warn": "!", "bad": "✕"}
TASK_NAMES = {
    "classification": "Classification",
    "multilabel": "Multi-label classification",
    "regression": "Regression",
}
LEVELS = {"good": "Good", "info": "Note", "warn": "Caution", "bad": "Problem"}
COMPARED = {
    "classification": ("mcc", "auroc", "balanced_accuracy"),
    "multilabel": ("auprc", "f1"),
    "regression": ("spearman", "r2"),
}


def heading(results: Results) -> Html:
    """Write the title and one line of facts."""
    kinds = {
        "classification": f"{len(results.classes)} classes",
        "multilabel": f"{len(results.classes)} labels",
        "regression": count(len(results.classes), "target"),
    }
    facts = [
        f"{TASK_NAMES[results.task]}, {kinds[results.task]}",
        count(results.data.n, "sequence") if results.data.n else "",
        f"{count(results.model.parameters, 'parameter')}" if results.model.parameters else "",
        f"trained in {duration(results.seconds)}" if math.isfinite(results.seconds) else "",
        results.hardware,
        f"seed {results.seed}" if results.seed is not None else "",
        results.created[:16].replace("T", " "),
    ]
    line = tag("ul", *(tag("li", fact) for fact in facts if fact), class_="facts")
    return tag(
        "header", tag("p", "seqmamba · DNA sequence model", class_="kicker"), tag("h1", results.title), line
    )


def verdict(results: Results, test: Predictions | None) -> Html:
    """Write the verdict and the findings that limit it."""
    first, *others = judge(results, test)
    box = tag(
        "div",
        _icon(first.level),
        tag(
            "div",
            tag("p", first.headline, class_="headline"),
            tag("p", first.detail) if first.detail else None,
        ),
        class_=f"verdict {first.level}",
    )
    items = tag("ul", *(_finding(finding) for finding in others), class_="findings") if others else None
    return tag("section", tag("h2", "Verdict", class_="unseen"), box, items, aria_label="Verdict")


def tiles(results: Results) -> Html | None:
    """Write the headline numbers with their intervals."""
    if not results.metrics:
        return None
    order = [name for name in METRICS[results.task] if name in results.metrics]
    order += [name for name in results.metrics if name not in order]
    cards = [_tile(name, results.metrics[name]) for name in order]
    note = (
        "Measured on the test set, which took no part in training or in choosing the model. "
        "Intervals are 95\u00a0% bootstrap intervals over test sequences."
    )
    return tag(
        "section",
        tag("h2", "Test results"),
        tag("p", note, class_="note"),
        tag("div", *cards, class_="tiles"),
    )


def baselines(results: Results) -> Html | None:
    """Write the comparison with models trained on the same split."""
    metric = primary_metric(results)
    if metric is None or not results.baselines:
        return None
    candidates = dict.fromkeys((metric, *COMPARED[results.task]))
    shown = [m for m in candidates if m in results.metrics and math.isfinite(results.metrics[m].value)][:2]
    figures = [_comparison_figure(results, name) for name in shown]
    rows = []
    order = [name for name in METRICS[results.task] if name in results.metrics]
    entries = {MODEL_NAME: (results.metrics, results.seconds)}
    for name in _baseline_order(results):
        entries[BASELINE_NAMES.get(name, name)] = (
            results.baselines[name].metrics,
            results.baselines[name].seconds,
        )
    for name, (metrics, seconds) in entries.items():
        rows.append([name, *(_estimate_cell(metrics.get(key)) for key in order), duration(seconds)])
    header = ["Model", *(metric_name(key) for key in order), "Time"]
    intro = (
        "Simpler models, trained and tested on the same sequences. Where intervals overlap, the test set "
        "cannot tell two models apart."
    )
    return tag(
        "section",
        tag("h2", "Compared with simple models"),
        tag("p", intro, class_="note"),
        tag("div", *figures, class_="pair") if figures else None,
        table(header, rows, caption="All models on the test set"),
    )


def _comparison_figure(results: Results, metric: str) -> Html:
    estimates = {MODEL_NAME: results.metrics[metric]}
    colours = {MODEL_NAME: "model"}
    for name in _baseline_order(results):
        estimate = results.baselines[name].metrics.get(metric)
        if estimate is not None and math.isfinite(estimate.value):
            estimates[BASELINE_NAMES.get(name, name)] = estimate
            colours[BASELINE_NAMES.get(name, name)] = name if name in BASELINE_NAMES else "length_gc"
    spoken = "; ".join(f"{name} {number(e.value)} ({interval(e)})" for name, e in estimates.items())
    figure = comparison(estimates, colours, chance=chance_level(metric, results))
    return tag(
        "div",
        tag("h3", metric_name(metric)),
        figure_html(
            figure, f"compare-{metric}", title=f"{metric_name(metric)} with 95 % intervals: {spoken}"
        ),
        class_="card",
    )


def _baseline_order(results: Results) -> list[str]:
    known = [name for name in BASELINE_NAMES if name in results.baselines]
    return known + [name for name in results.baselines if name not in known]


def _estimate_cell(estimate: Estimate | None) -> Html:
    if estimate is None or not math.isfinite(estimate.value):
        return tag("span", "–")
    return join([number(estimate.value), tag("small", interval(estimate))])


def _tile(name: str, estimate: Estimate) -> Html:
    words = METRIC_WORDS.get(name)
    return tag(
        "div",
        tag("p", metric_name(name), class_="label"),
        tag("p", number(estimate.value), class_="value"),
        tag("p", interval(estimate), class_="interval"),
        tag("p", words.meaning, class_="meaning") if words else None,
        class_="tile",
    )


def _finding(finding: Finding) -> Html:
    text = tag("div", tag("strong", finding.headline), tag("p", finding.detail) if finding.detail else None)
    return tag("li", _icon(finding.level), text, class_=finding.level)


def _icon(level: str) -> Html:
    return tag("span", ICONS[level], class_="icon", role="img", aria_label=LEVELS[level], title=LEVELS[level])
