from __future__ import annotations

import pytest

from seqmamba.report.document import POLICY, document
from seqmamba.report.markup import Html, bdi, escape, table, tag


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\r", "\x85", "\u200f", "\u202e", "\u2066", "\udcff"])
def test_what_a_page_cannot_hold_or_would_reorder_it_is_replaced_and_seen(bad: str) -> None:
    assert escape(f"a{bad}b") == "a\ufffdb"
    assert tag("p", title=f"a{bad}b") == '<p title="a\ufffdb"></p>'
    escape(f"a{bad}b").encode()


def test_what_is_written_from_right_to_left_stays_and_is_kept_apart() -> None:
    assert escape("\u0643\u0644\u0628\t\n") == "\u0643\u0644\u0628\t\n"
    assert bdi("<\u0643>") == "<bdi>&lt;\u0643&gt;</bdi>"


def test_only_what_is_html_already_is_taken_as_it_is() -> None:
    assert tag("p", Html("<b>x</b>"), "<b>", None, 1) == "<p><b>x</b>&lt;b&gt;1</p>"
    assert (
        tag("audio", controls="", src=None, aria_label='"')
        == '<audio controls="" aria-label="&quot;"></audio>'
    )
    rows = table(["<a>", "b"], [["<c>", "&"]], caption='"d"')
    assert '<th scope="col">&lt;a&gt;</th>' in rows
    assert '<th scope="row">&lt;c&gt;</th><td class="number">&amp;</td>' in rows
    assert 'aria-label="&quot;d&quot;"' in rows


def test_a_page_may_load_nothing_but_itself() -> None:
    page = document("<t>", [tag("p", "x"), None], note="n")
    assert f'content="{escape(POLICY)}"' in page
    assert "script-src" not in POLICY, "default-src forbids scripts"
    assert POLICY.startswith("default-src 'none';")
    assert page.count("<title>&lt;t&gt;</title>") == 1
    assert page.endswith("</html>")
