from __future__ import annotations

import pytest
from matplotlib.colors import to_rgb

from genomics.palette import DARK, LIGHT

TEXT = ("ink", "muted", "good", "warn", "bad")
MARKS = ("model", *(n for n in LIGHT if n.startswith(("other_", "base_", "series_"))))


def _luminance(colour: str) -> float:
    """WCAG 2.1 relative luminance."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(theme: dict[str, str]) -> None:
    for surface in ("surface", "page"):
        for name in TEXT:
            assert _contrast(theme[name], theme[surface]) >= 4.5, (name, surface)
    for name in MARKS:
        assert _contrast(theme[name], theme["surface"]) >= 3, name


def test_every_role_has_one_light_and_one_dark_colour() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)
