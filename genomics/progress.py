"""How far the reading of a genome is, on stderr."""

from __future__ import annotations

import sys
import time

_SECONDS = 1.0


class Progress:
    """Counts bases; shows a line that changes where somebody is watching, and a last line everywhere.

    Args:
        total: Bases there are to read; None if that is not known.
        done: Those that were read before this process.
    """

    def __init__(self, total: int | None, done: int = 0) -> None:
        self._total = total
        self._before = self._bases = done
        self._start = self._last = time.monotonic()

    def advance(self, bases: int) -> None:
        """Count some more bases."""
        self._bases += bases
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last > _SECONDS:
            self._last = now
            print(f"\r{self._text()}\033[K", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Print the last line."""
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}{self._text()}", file=sys.stderr)

    def _text(self) -> str:
        rate = (self._bases - self._before) / max(time.monotonic() - self._start, 1e-9)
        if self._total is None:
            return f"{self._bases:,} bases, {rate:,.0f} bases/s"
        share = 100 * self._bases / max(1, self._total)
        text = f"{self._bases:,} of {self._total:,} bases ({share:.1f} %), {rate:,.0f} bases/s"
        left = self._total - self._bases
        return f"{text}, {left / rate / 60:.0f} min left" if left and rate else text
