"""How far a long piece of work is, on stderr."""

from __future__ import annotations

import sys
import time

_SECONDS = 1.0


class Progress:
    """Counts units of work; shows a line that changes where somebody watches, and a last line everywhere.

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

    def advance(self, done: int) -> None:
        """Count some more."""
        self._done += done
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last > _SECONDS:
            self._last = now
            print(f"\r{self._text()}\033[K", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Print the last line."""
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}{self._text()}", file=sys.stderr)

    def _text(self) -> str:
        rate = (self._done - self._before) / max(time.monotonic() - self._start, 1e-9)
        speed = f"{rate:,.0f} {self._unit}/s"
        if self._total is None:
            return f"{self._done:,} {self._unit}, {speed}"
        share = 100 * self._done / max(1, self._total)
        text = f"{self._done:,} of {self._total:,} {self._unit} ({share:.1f} %), {speed}"
        left = self._total - self._done
        return f"{text}, {left / rate / 60:.0f} min left" if left and rate else text
