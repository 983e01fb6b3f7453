"""HTML from Python values: everything is escaped unless it is already `Html`."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

VOID = frozenset({"meta", "br", "hr", "img"})
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, which HTML forbids
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what reorders the text around it, unseen
    "\ud800-\udfff]"  # halves of characters, as in file names that are no UTF-8
)


class Html(str):
    """Text that is safe to put into a page as it is."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Write one element.

    Args:
        name: Element name.
        *children: Contents; anything but `Html` is escaped, None and empty strings are left out.
        **attributes: Attributes; a trailing underscore is dropped (``class_``), other underscores become
            hyphens, and None leaves the attribute out.

    Returns:
        The element.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(children)
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{inside}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Concatenate pieces, escaping those that are not `Html`."""
    return Html("".join(escape(child) for child in children if child is not None))


def escape(value: object) -> Html:
    """Return a value as safe text; see `visible` for the characters that do not stay."""
    return value if isinstance(value, Html) else Html(html.escape(visible(str(value)), quote=True))


def visible(text: str) -> str:
    """Replace characters that a page cannot hold, or that would reorder its text, by U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def bdi(value: object) -> Html:
    """Write a user's word into a sentence: the direction that it is written in does not leave it."""
    return tag("bdi", value)


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], *, numeric_from: int = 1, caption: str = ""
) -> Html:
    """Write a table that scrolls sideways on narrow screens.

    Args:
        header: Column titles.
        rows: Cells; the first of a row is its heading.
        numeric_from: First column that is set flush right.
        caption: Title for screen readers.

    Returns:
        The table.
    """

    def cell(kind: str, value: object, column: int, scope: str | None = None) -> Html:
        return tag(kind, value, class_="number" if column >= numeric_from else None, scope=scope)

    head = tag("tr", *(cell("th", title, i, "col") for i, title in enumerate(header)))
    body = [
        tag("tr", *(cell("td" if i else "th", v, i, None if i else "row") for i, v in enumerate(row)))
        for row in rows
    ]
    name = tag("caption", caption, class_="unseen") if caption else None
    whole = tag("table", name, tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption or "table")


def badge(right: bool) -> Html:
    """Write whether a prediction is right."""
    return tag("span", "right" if right else "wrong", class_=f"badge {'good' if right else 'bad'}")


def card(title: object, *inside: object, full: bool = False) -> Html:
    """Write a framed box with a heading; a full one takes the width of the page."""
    return tag("div", tag("h3", title), *inside, class_="card full" if full else "card")
