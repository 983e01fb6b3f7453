"""The one exception that stands for a mistake in the input rather than in the code."""

from __future__ import annotations

_LONGEST = 1_000  # characters of a message; a damaged file can make one line of all its bytes
_SHORT = 40


class UserError(Exception):
    """Something the user gave cannot be used.

    The command line prints it as ``error: <message>`` and ``hint: <hint>`` and exits with status 2.

    Args:
        message: One sentence that names the argument (or ``file:line``), what was expected and what came.
            What no terminal shows is escaped, and the middle of a very long one is left out.
        hint: One sentence that says what to do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        message = _legible(message)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


def quoted(text: str) -> str:
    """Return what a user gave as a message shows it: in quotes, and the beginning only of a long text."""
    return repr(text if len(text) <= _SHORT else f"{text[:_SHORT]}...")


def _legible(message: str) -> str:
    if not message.isprintable():
        message = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 + 5 :]}"
    return message
