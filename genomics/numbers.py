"""Whole numbers in the files of the field: what the formats call one, and no more.

Python's ``int`` also takes ``1_000``, ``+5`` and the digits of other scripts, and refuses very long numbers
with an error of its own.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"\s*-?[0-9]{1,100}\s*", re.ASCII)


def whole_number(text: str) -> int | None:
    """Return the whole number that a field holds.

    Args:
        text: A field; spaces around the number are fine.

    Returns:
        The number, which may be larger than any sequence is long; None if it is none.
    """
    return int(text) if _WHOLE.fullmatch(text) else None
