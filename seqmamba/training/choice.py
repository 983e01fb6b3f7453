"""A setting that was chosen from the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A setting, where it goes in the recipe, and why it has this value.

    Attributes:
        key: Dotted key of the recipe.
        value: What was chosen.
        reason: Why, in words.
    """

    key: str
    value: Any
    reason: str
