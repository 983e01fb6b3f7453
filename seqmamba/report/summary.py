"""The top of a page: title, verdict, headline numbers, comparison with simple models."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqmamba.metrics import METRICS, Estimate
from seqmamba.report.markup import Html, escape, join, table, tag
from seqmamba.report.palette import OTHERS
from seqmamba.report.plots import comparison
from seqmamba.report.svg import figure_html
from seqmamba.report.verdict import Finding, Run, chance_level, primary_metric
from seqmamba.report.words import (
    METRIC_WORDS,
    MODEL_NAME,
    Wording,
    count,
    duration,
    interval,
    metric_name,
    number,
)

ICONS = {"good": "✓", "info": "i", "warn": "!", "bad": "✕"}
TASK_NAMES = {
    "classification": "Classification",
    "multilabel": "Multi-label classification",
    "regression": "Regression",
    "tagging": "Tagging over time",
}
LEVELS = {"good": "Good", "info": "Note", "warn": "Caution", "bad": "Problem"}
COMPARED = {
    "classification": ("mcc", "auroc", "balanced_accuracy"),
    "multilabel": ("auprc", "f1"),
    "regression": ("spearman", "r2"),
}


def heading(title: str, facts: Sequence[str], wording: Wording) -> Html:
    """Write the title and one line of facts; empty ones are left out."""
    line = tag("ul", *(tag("li", fact) for fact in facts if fact), class_="facts")
    return tag("header", tag("p", wording.kicker, class_="kicker"), tag("h1", title), line)


def run_facts(results: Run, parameters: int, wording: Wording) -> list[str]:
    """Return the line of facts about a run."""
    kinds = {
        "classification": f"{len(results.classes)} classes",
        "multilabel": f"{len(results.classes)} labels",
        "regression": count(len(results.classes), "target"),
        "tagging": f"{len(results.classes)} labels",
    }
    return [
        f"{TASK_NAMES[results.task]}, {kinds[results.task]}",
        count(results.data.n, wording.item) if results.data.n else "",
        count(parameters, "parameter") if parameters else "",
        f"trained in {duration(results.seconds)}" if math.isfinite(results.seconds) else "",
        results.hardware,
        f"seed {results.seed}" if results.seed is not None else "",
        results.created[:16].replace("T", " "),
    ]


def class_title(classes: Sequence[str]) -> str:
    """Return a title that names the first few classes."""
    return f"{' / '.join(classes[:4])}{' ...' if len(classes) > 4 else ''}"


def verdict(findings: Sequence[Finding]) -> Html:
    """Write the verdict, which comes first, and the findings that limit it."""
    first, *others = findings
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


def tiles(results: Run, item: str) -> Html | None:
    """Write the headline numbers with their intervals; the item is what is classified."""
    if not results.metrics:
        return None
    order = metric_order(results)
    cards = [_tile(name, results.metrics[name]) for name in order]
    note = (
        "Measured on the test set, which took no part in training or in choosing the model. "
        f"Intervals are 95\u00a0% bootstrap intervals over test {item}s."
    )
    return tag(
        "section",
        tag("h2", "Test results"),
        tag("p", note, class_="note"),
        tag("div", *cards, class_="tiles"),
    )


def metric_order(results: Run) -> list[str]:
    """Return the names of a run's metrics in the order in which they are shown."""
    known = [name for name in METRICS.get(results.task, ()) if name in results.metrics]
    return known + [name for name in results.metrics if name not in known]


def baselines(results: Run, wording: Wording) -> Html | None:
    """Write the comparison with models trained on the same split."""
    metric = primary_metric(results)
    if metric is None or not results.baselines:
        return None
    candidates = dict.fromkeys((metric, *COMPARED.get(results.task, ())))
    shown = [m for m in candidates if m in results.metrics and math.isfinite(results.metrics[m].value)][:2]
    figures = [_comparison_figure(results, name, wording) for name in shown]
    rows = []
    order = metric_order(results)
    entries = {MODEL_NAME: (results.metrics, results.seconds)}
    for name in _baseline_order(results, wording):
        entries[wording.baseline(name).name] = (
            results.baselines[name].metrics,
            results.baselines[name].seconds,
        )
    for name, (metrics, seconds) in entries.items():
        rows.append([name, *(estimate_cell(metrics.get(key)) for key in order), duration(seconds)])
    header = ["Model", *(metric_name(key) for key in order), "Time"]
    intro = (
        f"Simpler models, trained and tested on the same {wording.item}s. Where intervals overlap, the test "
        "set cannot tell two models apart."
    )
    return tag(
        "section",
        tag("h2", "Compared with simple models"),
        tag("p", intro, class_="note"),
        tag("div", *figures, class_="pair") if figures else None,
        table(header, rows, caption="All models on the test set"),
    )


def _comparison_figure(results: Run, metric: str, wording: Wording) -> Html:
    estimates = {MODEL_NAME: results.metrics[metric]}
    colours = {MODEL_NAME: "model"}
    for place, name in enumerate(_baseline_order(results, wording)):
        estimate = results.baselines[name].metrics.get(metric)
        if estimate is not None and math.isfinite(estimate.value):
            words = wording.baseline(name).name
            estimates[words], colours[words] = estimate, OTHERS[place % len(OTHERS)]
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


def _baseline_order(results: Run, wording: Wording) -> list[str]:
    known = [name for name in wording.baselines if name in results.baselines]
    return known + [name for name in results.baselines if name not in known]


def estimate_cell(estimate: Estimate | None) -> Html:
    """Write an estimate and its interval into a cell; a dash where there is none."""
    if estimate is None or not math.isfinite(estimate.value):
        return escape("–")
    return join([number(estimate.value), tag("small", interval(estimate))])


def tile(label: str, value: str, beside: str = "", meaning: str = "") -> Html:
    """Write a headline number: its name, the number, its interval or unit, and what it means."""
    return tag(
        "div",
        tag("p", label, class_="label"),
        tag("p", value, class_="value"),
        tag("p", beside, class_="interval") if beside else None,
        tag("p", meaning, class_="meaning") if meaning else None,
        class_="tile",
    )


def _tile(name: str, estimate: Estimate) -> Html:
    meaning = METRIC_WORDS[name].meaning if name in METRIC_WORDS else ""
    return tile(metric_name(name), number(estimate.value), interval(estimate), meaning)


def _finding(finding: Finding) -> Html:
    text = tag("div", tag("strong", finding.headline), tag("p", finding.detail) if finding.detail else None)
    return tag("li", _icon(finding.level), text, class_=finding.level)


def _icon(level: str) -> Html:
    return tag("span", ICONS[level], class_="icon", role="img", aria_label=LEVELS[level], title=LEVELS[level])
