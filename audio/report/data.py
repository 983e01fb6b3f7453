"""What the recordings of a run hold, what is wrong with them, and how they were divided."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from audio.files import describe
from audio.inventory import take_inventory
from audio.inventory_report import NOTHING_WRONG, facts, findings
from audio.manifests import Clip
from audio.report.settings import find_recorded, settings_card
from audio.results import Results
from seqmamba.errors import UserError
from seqmamba.report.markup import Html, card, table, tag
from seqmamba.report.provenance import split_card
from seqmamba.report.verdict import capital
from seqmamba.report.words import duration

MOST_FILES = 10_000
MOST_SECONDS = 4 * 3600
"""Sound that is decoded for a page, some seconds of work; `seqmamba audio inspect` looks at any amount."""


def data(results: Results, config: str | None) -> Html | None:
    """Write the settings, the inventory of the recordings, and the split.

    Args:
        results: A finished run.
        config: The text of its recipe.
    """
    summary, explanation = results.data, results.split.explanation
    facts_of_run = []
    if summary.seconds:
        spread = (summary.seconds[key] for key in ("min", "median", "max"))
        low, middle, high = (f"{value:.3g}" for value in spread)
        facts_of_run.append(
            f"{duration(summary.seconds['total'])} of sound, {low} to {high} s each, median {middle} s"
        )
    if summary.rate:
        facts_of_run.append(f"brought to {summary.rate:,} Hz")
    settings, inventory = settings_card(config), inventory_card(config)
    split = split_card(results, "recording", "Split")
    if not (settings or inventory or split or facts_of_run):
        return None
    beside = tag("div", inventory, split, class_="stack") if inventory and split else inventory or split
    return tag(
        "section",
        tag("h2", "Data and settings"),
        tag("p", f"{capital(explanation)}.", class_="note") if explanation else None,
        tag("p", f"{', '.join(facts_of_run)}.", class_="note") if facts_of_run else None,
        tag("div", settings, beside, class_="pair"),
    )


def data_and_settings(config: str | None) -> Html | None:
    """Write the settings and the inventory of a run without labels; None without either.

    Args:
        config: The text of its recipe.
    """
    cards = [settings_card(config), inventory_card(config)]
    if not any(cards):
        return None
    return tag("section", tag("h2", "Data and settings"), tag("div", *cards, class_="pair"))


def inventory_card(config: str | None) -> Html | None:
    """Decode the recordings of a run and write what they hold.

    Args:
        config: The text of its recipe.

    Returns:
        The card; None if the recipe names no recordings.
    """
    try:
        clips = find_recorded(config)
        if clips is None:
            return None
        if _is_much(clips):
            raise UserError("there is too much of them for a page, see `seqmamba audio inspect`")
        inventory = take_inventory(clips, progress=False)
    except UserError as error:
        text = f"The recordings were not looked at again: {error.message}."
        return card("Inventory", tag("p", text, class_="note"))
    rows = [[capital(name), value] for name, value in facts(inventory)]
    found = [_finding(title, cases) for title, cases in findings(inventory)]
    nothing = tag("p", f"{capital(NOTHING_WRONG)}.", class_="note")
    listing = table(["What", "Found"], rows, numeric_from=2, caption="Inventory of the recordings")
    return card("Inventory", listing, *(found or [nothing]))


def _finding(title: str, cases: Sequence[str]) -> Html:
    listing = tag("ul", *(tag("li", tag("code", case)) for case in cases))
    return tag("details", tag("summary", capital(title)), listing)


def _is_much(clips: Sequence[Clip]) -> bool:
    """Say whether decoding the files of clips would take long."""
    paths = {clip.path for clip in clips}
    seconds = 0.0
    for path in paths if len(paths) <= MOST_FILES else ():
        with suppress(UserError):  # the inventory names files that cannot be read
            seconds += describe(path).seconds
    return len(paths) > MOST_FILES or seconds > MOST_SECONDS
