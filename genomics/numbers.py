"""Numbers in the files of the field: what the formats call one, and no more.

Python's ``int`` and ``float`` also take ``1_000`` and the digits of other scripts, and ``int`` refuses very
long numbers with an error of its own.
"""

from __future__ import annotations

import math
import re

_WHOLE = re.compile(r"\s*-?[0-9]{1,100}\s*", re.ASCII)
_DECIMAL = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)


def whole_number(text: str) -> int | None:
    """Return the whole number that a field holds.

    Args:
        text: A field; spaces around the number are fine.

    Returns:
        The number, which may be larger than any sequence is long; None if it is none.
    """
    return int(text) if _WHOLE.fullmatch(text) else None


def finite_number(text: str) -> float | None:
    """Return the decimal number that a field holds.

    Args:
        text: A field; spaces around the number are fine.

    Returns:
        The number; None if it is none, or larger than any float.
    """
    value = float(text) if _DECIMAL.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None
