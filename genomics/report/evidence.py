"""What only a DNA run shows: data, split and leaks, and attribution logos."""

from __future__ import annotations

from typing import Any

import numpy as np

from genomics import logos
from genomics.palette import LIGHT
from genomics.results import Attribution, Results
from seqmamba.predictions import SEPARATOR
from seqmamba.report.markup import Html, badge, join, table, tag
from seqmamba.report.provenance import split_card
from seqmamba.report.svg import figure_html
from seqmamba.report.words import count, number

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
    title = SPLIT_NAMES.get(split.by, "Split")
    found = (split_card(results, "sequence", title), _leak_card(results.leaks))
    cards = [card for card in found if card is not None]
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
        figures.append(figure_html(overview, f"track-{index}", title=title, colours=LIGHT))
        caption = f"Above: all {len(scores):,} bases. Below: the {end - start} that matter most."
    letters = logos.logo(entry.sequence, scores, window=(start, end))
    strongest = int(np.argmax(np.abs(scores))) if len(scores) else 0
    title = f"Attribution logo of {entry.name}, bases {start} to {end}, strongest at {strongest}: "
    title += entry.sequence[start:end]
    figures.append(figure_html(letters, f"logo-{index}", title=title, caption=caption, colours=LIGHT))
    return tag("div", tag("h3", tag("code", entry.name)), _answer(entry, task), *figures, class_="card")


def _answer(entry: Attribution, task: str) -> Html:
    if task == "regression":
        text = f"True {entry.label}, predicted {entry.prediction} {number(entry.probability)}"
        return tag("p", text, class_="note")
    # Several labels stand in one text, separated as in predictions.tsv.
    right = entry.prediction in (part.strip() for part in [entry.label, *entry.label.split(SEPARATOR)])
    facts = f"True {entry.label}, predicted {entry.prediction} with probability {number(entry.probability)} "
    return tag("p", facts, badge(right), class_="note")
