"""The page around the sections of a report: one file that needs neither network nor scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files

from seqmamba.report.markup import Html, join, tag
from seqmamba.report.palette import DARK, LIGHT

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""What a browser may load: nothing but what the page itself holds."""


def document(
    title: str,
    sections: Iterable[Html | None],
    *,
    note: str,
    light: Mapping[str, str] = LIGHT,
    dark: Mapping[str, str] = DARK,
) -> str:
    """Return a page.

    Args:
        title: In the browser's tab.
        sections: The heading and what follows it; None is left out.
        note: The line at the bottom.
        light: Colours of the figures and the page, by their names.
        dark: The same for readers who asked for a dark page.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(_style(light, dark))),
    )
    body = tag("body", tag("main", *sections, tag("footer", tag("p", note))))
    return "<!DOCTYPE html>\n" + join([tag("html", head, body, lang="en")])


def _style(light: Mapping[str, str], dark: Mapping[str, str]) -> str:
    rules = (files("seqmamba.report") / "style.css").read_text(encoding="utf-8")
    themes = (
        f":root{{{_variables(light)}}}\n@media (prefers-color-scheme: dark){{:root{{{_variables(dark)}}}}}"
    )
    return f"\n{themes}\n{rules}"


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name.replace('_', '-')}:{colour};" for name, colour in colours.items())
