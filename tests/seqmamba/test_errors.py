from __future__ import annotations

from seqmamba.errors import UserError, quoted


def test_a_message_shows_what_no_terminal_shows() -> None:
    assert UserError("x\x1b[31m\x00\ufeffé").message == "x\\x1b[31m\\x00\\ufeffé"
    assert UserError("two\nlines").message == "two\nlines"


def test_a_message_of_a_whole_file_is_cut_in_its_middle() -> None:
    message = UserError(f"x.bed:3: got {'A' * 100_000}, expected B").message
    assert len(message) <= 1_000
    assert message.startswith("x.bed:3: got AAA")
    assert message.endswith("A, expected B")
    assert "A ... A" in message


def test_long_text_is_quoted_by_its_beginning() -> None:
    assert quoted("chr1") == "'chr1'"
    assert quoted("x" * 41) == f"'{'x' * 40}...'"
