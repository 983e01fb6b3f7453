"""The colours of figures and reports, those of the bases among them; see `seqmamba.report.palette`."""

from __future__ import annotations

from types import MappingProxyType

from seqmamba.report import palette

LIGHT = MappingProxyType(
    palette.LIGHT
    | {
        "base_a": "#0f8a46",
        "base_c": "#1d62d6",
        "base_g": "#c27400",
        "base_t": "#d1322e",
        "base_n": "#7d8791",
    }
)

DARK = MappingProxyType(
    palette.DARK
    | {
        "base_a": "#4fca82",
        "base_c": "#76a9ff",
        "base_g": "#f2b045",
        "base_t": "#ff7d76",
        "base_n": "#8d97a1",
    }
)

BASES = MappingProxyType({"A": "base_a", "C": "base_c", "G": "base_g", "T": "base_t", "U": "base_t"})
