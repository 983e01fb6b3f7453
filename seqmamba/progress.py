"""How far a long piece of work is, on stderr: a bar where somebody watches, and a last line everywhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from seqmamba.memory import held_memory

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_SECONDS = 1.0
"""Between two changes of the bar, and before it appears: short work shows none."""
_shown: Progress | None = None  # a terminal has room for one


class Progress:
    """Counts units of work; shows a bar with rate, time left and memory, and a last line everywhere.

    Args:
        total: How many there are; None if that is not known.
        done: Those that were done before this process.
        unit: What is counted.
    """

    def __init__(self, total: int | None, done: int = 0, *, unit: str = "bases") -> None:
        self._total = total
        self._unit = unit
        self._before = self._done = done
        self._start = self._last = time.monotonic()
        self._bar: Bar | None = None

    def advance(self, done: int) -> None:
        """Count some more."""
        self._done += done
        now = time.monotonic()
        if now - self._last > _SECONDS and sys.stderr.isatty():
            self._last = now
            self._show()

    def finish(self) -> None:
        """Take the bar away and print the last line."""
        self.close()
        print(self._text(), file=sys.stderr)

    def close(self) -> None:
        """Take the bar away without a line."""
        if self._bar is not None:
            self._bar.live.transient = True
        self._stop()

    def _show(self) -> None:
        """Draw the bar as it stands now, unless that of other work is there."""
        global _shown
        if _shown not in (None, self):
            return
        if self._bar is None:
            self._bar = _new_bar()
            self._bar.add_task("", total=self._total)
            self._bar.start()
            _shown = self
        task, text = self._bar.task_ids[0], f"{self._text()}{_memory()}"
        self._bar.update(task, completed=self._done, description=text, refresh=True)

    def _stop(self) -> None:
        global _shown
        if self._bar is not None:
            self._bar.stop()
            self._bar = _shown = None

    def _text(self) -> str:
        rate = (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)
        speed = f"{rate:,.0f} {self._unit}/s"
        if self._total is None:
            return f"{self._done:,} {self._unit}, {speed}"
        share = 100 * self._done / max(1, self._total)
        text = f"{self._done:,} of {self._total:,} {self._unit} ({share:.1f} %), {speed}"
        left = self._total - self._done
        return f"{text}, {_time_text(left / rate)} left" if left and rate else text


def leave_bar() -> None:
    """Leave a bar that is shown as it stands and go to the next line, where a failure is to be printed."""
    if _shown is not None:
        _shown._stop()


def _new_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    return Bar(
        BarColumn(bar_width=20),
        text,
        console=Console(stderr=True),
        auto_refresh=False,  # no thread: the work itself says when
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _memory() -> str:
    held = held_memory()
    return "" if held is None else f", memory {held / 2**30:.1f} GiB"


def _time_text(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
