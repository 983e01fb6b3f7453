"""The colours of figures and reports, one name a role, in a light and a dark version.

Figures are drawn in the light colours. A report replaces every one of them by a CSS variable of the same
name, so that one drawing serves both themes; hence no two roles share a light colour. Text colours reach a
contrast of 4.5:1 against their surface, lines 3:1 (WCAG 2.1, 1.4.3 and 1.4.11).
"""

from __future__ import annotations

from types import MappingProxyType

LIGHT = MappingProxyType(
    {
        "ink": "#1b1f24",
        "muted": "#59636e",
        "grid": "#e1e5ea",
        "surface": "#ffffff",
        "page": "#f5f6f8",
        "model": "#1f5fbf",
        "other_1": "#b4530a",
        "other_2": "#7b3fb3",
        "other_3": "#66707a",
        "chance": "#8a939d",
        "good": "#17734a",
        "warn": "#8a5800",
        "bad": "#b3261f",
        "series_1": "#1f60bf",
        "series_2": "#c25a0c",
        "series_3": "#0f7f5c",
        "series_4": "#a63a8a",
        "series_5": "#8a6d00",
        "series_6": "#2a7f9e",
        "series_7": "#7a4fc4",
        "series_8": "#b53a4c",
    }
)

DARK = MappingProxyType(
    {
        "ink": "#e7eaee",
        "muted": "#a3adb8",
        "grid": "#2d343c",
        "surface": "#181c21",
        "page": "#0f1215",
        "model": "#74a9ff",
        "other_1": "#f2a35e",
        "other_2": "#c79ff5",
        "other_3": "#9ca6b0",
        "chance": "#7b8590",
        "good": "#56c991",
        "warn": "#f0b849",
        "bad": "#ff8d84",
        "series_1": "#75aaff",
        "series_2": "#f4a461",
        "series_3": "#4fcaa2",
        "series_4": "#ec8fd2",
        "series_5": "#d9bd4d",
        "series_6": "#6cc5e3",
        "series_7": "#bb9df5",
        "series_8": "#ff8f9d",
    }
)

SERIES = tuple(name for name in LIGHT if name.startswith("series_"))
OTHERS = tuple(name for name in LIGHT if name.startswith("other_"))
"""Colours of what a model is compared with."""
