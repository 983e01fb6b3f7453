"""What holds for every page that a report writes, whatever the domain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img"}


class _Checker(HTMLParser):
    """Checks nesting and collects what an accessible, self-contained page must and must not have."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.identifiers: list[str] = []
        self.references: list[str] = []
        self.unnamed: list[str] = []
        self.text: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in values:
            self.identifiers.append(str(values["id"]))
        self.references += [str(values[key]) for key in ("href", "src", "xlink:href") if key in values]
        if tag in ("svg", "audio") and not values.get("aria-label"):
            self.unnamed.append(tag)
        if tag == "img" and not values.get("alt"):
            self.unnamed.append(tag)
        if tag == "th" and not values.get("scope"):
            self.unnamed.append(tag)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])
        assert not [key for key in values if key.startswith("on")], "a page has no scripts"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        opened = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check_page(page: str, *, colours: Mapping[str, str], most_bytes: int) -> str:
    """Check a page and return its text, runs of white space as one.

    Args:
        page: Its source.
        colours: Those of the light theme; drawings use their names instead.
        most_bytes: How large it may be.
    """
    assert len(page.encode()) < most_bytes
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    assert not {"script", "link", "iframe", "object", "embed"} & set(checker.tags)
    assert not checker.unnamed
    assert len(checker.identifiers) == len(set(checker.identifiers)), "identifiers collide"
    inside = [reference for reference in checker.references if not reference.startswith("data:")]
    assert all(reference.startswith("#") for reference in inside)
    assert {reference[1:] for reference in inside} <= set(checker.identifiers)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(checker.identifiers)
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not [colour for colour in colours.values() if f": {colour}" in drawings], "a fixed colour is left"
    assert not re.search(r"(?:https?:|@import|url\((?!#))", page.replace("http://www.w3.org", ""))
    assert "default-src 'none'" in checker.policy
    return " ".join("".join(checker.text).split())
