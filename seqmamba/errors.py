"""The one exception that stands for a mistake in the input rather than in the code."""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave cannot be used.

    The command line prints it as ``error: <message>`` and ``hint: <hint>`` and exits with status 2.

    Args:
        message: One sentence that names the argument (or ``file:line``), what was expected and what came.
        hint: One sentence that says what to do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"
