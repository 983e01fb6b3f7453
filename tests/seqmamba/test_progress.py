from __future__ import annotations

import io
import re
import sys

import pytest

from seqmamba import progress
from seqmamba.cli.main import main
from seqmamba.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, in seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "held_memory", lambda: 3 * 2**30)
    return now


def watch(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in the place of stderr; in the test itself, since pytest captures each phase anew."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    return terminal


def test_in_a_pipe_there_is_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    work = Progress(4000, 1000, unit="windows")
    for _ in range(3):
        clock[0] += 10
        work.advance(1000)
    assert capsys.readouterr().err == ""
    work.finish()
    assert capsys.readouterr().err == "4,000 of 4,000 windows (100.0 %), 100 windows/s\n"


def test_a_terminal_sees_rate_time_and_memory(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    work = Progress(40_000, unit="windows")
    work.advance(1)
    assert terminal.getvalue() == ""  # nothing for what may be over soon
    clock[0] += 20
    work.advance(1999)
    text = terminal.getvalue()
    assert "2,000 of 40,000 windows (5.0 %), 100 windows/s, 6 min left, memory 3.0 GiB" in text
    clock[0] += 380
    work.advance(38_000)
    work.finish()
    assert terminal.getvalue().endswith("40,000 of 40,000 windows (100.0 %), 100 windows/s\n")
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1  # cursor


def test_an_unknown_total(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    work = Progress(None)
    clock[0] += 2
    work.advance(1000)
    assert "1,000 bases, 500 bases/s, memory" in terminal.getvalue()
    work.close()
    assert not re.search(r"bases/s\n$", terminal.getvalue())


def test_one_bar_at_a_time(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    outer, inner = Progress(10, unit="files"), Progress(10, unit="bases")
    clock[0] += 2
    outer.advance(1)
    inner.advance(1)
    assert "bases" not in terminal.getvalue()
    outer.finish()
    clock[0] += 2
    inner.advance(1)
    assert "2 of 10 bases" in terminal.getvalue()


def test_a_failure_is_printed_below_the_bar(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    work = Progress(10, unit="files")
    clock[0] += 2
    work.advance(1)
    assert main(["recipes", "show", "nothing"]) == 2
    assert re.search(r"GiB\s*\n(\x1b\[\?25h)?error: 'nothing' is no recipe", terminal.getvalue())
    assert terminal.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(8, "8 s"), (89, "89 s"), (120, "2 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_time_left(seconds: float, text: str) -> None:
    assert progress._time_text(seconds) == text
