"""Matplotlib figures as inline SVG that follows the page's colours and fonts."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from seqmamba.report.markup import Html, escape, tag
from seqmamba.report.palette import LIGHT

_REFERENCE = re.compile(r'(?:url\(#|href="#)([^)"]+)')
_IDENTITY = re.compile(r' id="([^"]+)"')
_LONG_NUMBER = re.compile(r"(?<![\w#.])(-?\d+\.\d{2})\d+")
_TAG = re.compile(r"<[^>]+>")
_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "seqmamba", "path.simplify_threshold": 0.3}


def figure_html(
    figure: Figure, key: str, *, title: str, caption: object = "", colours: Mapping[str, str] = LIGHT
) -> Html:
    """Return a figure element with an inline drawing.

    Args:
        figure: What to draw.
        key: Unique on the page; prefixes the identifiers inside the drawing.
        title: What the drawing shows, for those who cannot see it.
        caption: Text below.
        colours: The names of the figure's colours, those of the page.

    Returns:
        The element.
    """
    drawing = inline_svg(figure, key, title=title, colours=colours)
    return tag("figure", drawing, tag("figcaption", caption) if caption else None)


def inline_svg(figure: Figure, key: str, *, title: str, colours: Mapping[str, str] = LIGHT) -> Html:
    """Return a figure as an SVG element without metadata, fixed size, fixed colours or colliding identifiers.

    Args:
        figure: What to draw.
        key: Prefix of the identifiers.
        title: Accessible name.
        colours: The names of the figure's colours, those of the page.

    Returns:
        The element.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has fonts for the names that matplotlib's own font cannot spell.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="([^"]+)"', body)
    assert view_box is not None, "matplotlib writes a viewBox"
    inside = body[body.index(">") + 1 : body.rindex("</svg>")]
    inside = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", inside, flags=re.DOTALL
    )
    referenced = set(_REFERENCE.findall(inside))
    variables = {colour: f"var(--{name.replace('_', '-')})" for name, colour in colours.items()}
    known = re.compile("(?<=: )(" + "|".join(variables) + ")")

    def rewrite(match: re.Match[str]) -> str:
        written = _IDENTITY.sub(lambda m: f' id="{key}-{m[1]}"' if m[1] in referenced else "", match[0])
        written = _REFERENCE.sub(lambda m: m[0].replace(f"#{m[1]}", f"#{key}-{m[1]}"), written)
        written = written.replace("xlink:href", "href")
        if not written.startswith("<image"):  # its scale is a small number, and all of its digits count
            written = _LONG_NUMBER.sub(r"\1", written)
        return re.sub(r"\s*\n\s*", " ", known.sub(lambda m: variables[m[0]], written))

    # Only inside tags: what stands between them is the user's text.
    inside = _TAG.sub(rewrite, inside)
    inside = re.sub(r">\s*\n\s*<", "><", inside)
    return Html(
        f'<svg role="img" viewBox="{view_box[1]}" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )
