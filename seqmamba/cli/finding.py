"""The outcome of one check of ``seqmamba doctor``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Args:
        group: Heading that it is listed under.
        name: What was looked at.
        detail: What was found.
        ok: Whether it is as it should be.
        fix: What to do when it is not.
    """

    group: str
    name: str
    detail: str
    ok: bool = True
    fix: str | None = None


def first_line(failure: BaseException) -> str:
    """Return the kind of a failure and the first line of its message."""
    lines = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {lines[0]}" if lines else type(failure).__name__
