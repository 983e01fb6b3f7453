"""The rest of the page: data, split and leaks, attribution logos, and how to make the run again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from genomics import logos
from genomics.report.markup import Html, join, table, tag
from genomics.report.svg import figure_html
from genomics.report.words import count, number
from genomics.results import Attribution, Results
from seqmamba.predictions import SEPARATOR
from seqmamba.stratify import PARTS

LEAK_KINDS = {
    "exact": "Exact copies",
    "reverse_complement": "Reverse-complement copies",
    "overlaps": "Overlapping coordinates",
    "similar": "Similar sequences",
}
SPLIT_NAMES = {
    "column": "Split as given",
    "chromosome": "Split by chromosome",
    "block": "Split by genome block",
    "similarity": "Split by sequence similarity",
    "random": "Random split",
}
MAX_NAMED = 10
MAX_CLASS_ROWS = 60
MAX_LOGOS = 8


def data(results: Results) -> Html | None:
    """Write the split table and the leak check."""
    split, summary = results.split, results.data
    facts = []
    if summary.lengths:
        low, middle, high = (summary.lengths.get(key, float("nan")) for key in ("min", "median", "max"))
        same = low == high
        facts.append(
            f"Length {low:,.0f} bases"
            if same
            else f"Length {low:,.0f} to {high:,.0f} bases, median {middle:,.0f}"
        )
    if np.isfinite(summary.gc):
        facts.append(f"GC content {summary.gc:.1%}")
    if not (split.counts or facts or results.leaks):
        return None
    pieces = [tag("h2", "Data and split")]
    if split.explanation:
        pieces.append(tag("p", split.explanation, class_="note"))
    if facts:
        pieces.append(tag("p", ". ".join(facts) + ".", class_="note"))
    cards = [card for card in (_split_card(results), _leak_card(results.leaks)) if card is not None]
    return tag("section", *pieces, tag("div", *cards, class_="pair") if cards else None)


def attributions(results: Results) -> Html | None:
    """Write the logos of a few test sequences."""
    if not results.attributions:
        return None
    methods = {entry.method for entry in results.attributions}
    meaning = "Letters above the line support the predicted class, letters below speak against it."
    if results.task == "regression":
        meaning = "Letters above the line raise the predicted value, letters below lower it."
    intro = (
        f"Each letter is as tall as its effect on the prediction ({', '.join(sorted(methods))}). {meaning} "
        "Heights are comparable within a sequence only."
    )
    cards = [_logo_card(entry, i, results.task) for i, entry in enumerate(results.attributions[:MAX_LOGOS])]
    return tag(
        "section",
        tag("h2", "What the model looks at"),
        tag("p", intro, class_="note"),
        tag("div", *cards, class_="pair"),
    )


def reproduction(results: Results, config: str | None) -> Html | None:
    """Write the command, the configuration and the versions."""
    pieces: list[Html] = []
    if results.command:
        pieces += [tag("h3", "Command"), tag("pre", tag("code", results.command), tabindex="0")]
    if results.versions:
        items = (tag("li", f"{name} {version}") for name, version in results.versions.items())
        pieces += [tag("h3", "Versions"), tag("ul", *items, class_="facts")]
    name, text = "config.yaml", config
    if not text and results.model.config:
        name, text = "the model's", json.dumps(results.model.config, indent=2)
    if text:
        listing = tag("pre", tag("code", text.strip()), tabindex="0")
        pieces.append(tag("details", tag("summary", f"Complete configuration ({name})"), listing))
    return tag("section", tag("h2", "Make it again"), *pieces) if pieces else None


def _split_card(results: Results) -> Html | None:
    counts = results.split.counts
    if not counts:
        return None
    parts = [part for part in PARTS if part in counts] + [part for part in counts if part not in PARTS]
    classes = list(dict.fromkeys(name for part in parts for name in counts[part]))
    rows: list[list[object]] = [
        [
            "Sequences" if results.task == "regression" else name,
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
    if len(classes) > 1 and results.task != "multilabel":
        share = [f"{total:,} ({total / max(sum(totals), 1):.0%})" for total in totals]
        rows.append([tag("strong", "All"), *(tag("strong", text) for text in share)])
    first = {"regression": "Part", "multilabel": "Label"}.get(results.task, "Class")
    title = SPLIT_NAMES.get(results.split.by, "Split")
    return tag("div", tag("h3", title), table([first, *parts], rows, caption=title), class_="card")


def _leak_card(leaks: dict[str, Any]) -> Html | None:
    if not leaks:
        return None
    counts = leaks.get("counts", {})
    rows = [[title, f"{counts.get(kind, len(leaks.get(kind, []))):,}"] for kind, title in LEAK_KINDS.items()]
    offenders = [
        [title, _offender(entry, 2), _offender(entry, 0), number(float(_field(entry, 4)), 2)]
        for kind, title in LEAK_KINDS.items()
        for entry in leaks.get(kind, [])[:MAX_NAMED]
    ]
    listing: Html | None = None
    if offenders:
        header = ["Kind", "Sequence", "Gives away", "Shared"]
        pairs = table(header, offenders, numeric_from=3, caption="Offending pairs")
        heading = tag("summary", f"Offenders, at most {MAX_NAMED} of each kind")
        listing = tag("details", heading, pairs, open="")
    text = str(leaks.get("summary", ""))
    return tag(
        "div",
        tag("h3", "Leak check"),
        tag("p", text) if text else None,
        table(["Held-out sequences with", "Count"], rows, caption="Leaks between the parts"),
        listing,
        class_="card full" if offenders else "card",
    )


def _field(entry: Any, index: int) -> Any:
    """A leak is a list after a round trip through JSON, or a mapping from other writers."""
    names = ("name_a", "split_a", "name_b", "split_b", "value")
    return entry[names[index]] if isinstance(entry, dict) else entry[index]


def _offender(entry: Any, index: int) -> Html:
    return join([tag("code", _field(entry, index)), " ", tag("small", _field(entry, index + 1))])


def _logo_card(entry: Attribution, index: int, task: str) -> Html:
    scores = np.nan_to_num(np.asarray(entry.scores, dtype=np.float64))
    start, end = logos.best_window(scores)
    figures = []
    caption = "Positions in bases, counted from 0."
    if end - start < len(scores):
        overview = logos.track(scores, window=(start, end))
        title = f"Attribution along all {count(len(scores), 'base')} of {entry.name}"
        figures.append(figure_html(overview, f"track-{index}", title=title))
        caption = f"Above: all {len(scores):,} bases. Below: the {end - start} that matter most."
    letters = logos.logo(entry.sequence, scores, window=(start, end))
    strongest = int(np.argmax(np.abs(scores))) if len(scores) else 0
    title = f"Attribution logo of {entry.name}, bases {start} to {end}, strongest at {strongest}: "
    title += entry.sequence[start:end]
    figures.append(figure_html(letters, f"logo-{index}", title=title, caption=caption))
    return tag("div", tag("h3", tag("code", entry.name)), _answer(entry, task), *figures, class_="card")


def _answer(entry: Attribution, task: str) -> Html:
    if task == "regression":
        text = f"True {entry.label}, predicted {entry.prediction} {number(entry.probability)}"
        return tag("p", text, class_="note")
    # Several labels stand in one text, separated as in predictions.tsv.
    right = entry.prediction in (part.strip() for part in [entry.label, *entry.label.split(SEPARATOR)])
    mark = tag("span", "right" if right else "wrong", class_=f"badge {'good' if right else 'bad'}")
    facts = f"True {entry.label}, predicted {entry.prediction} with probability {number(entry.probability)} "
    return tag("p", facts, mark, class_="note")
