"""The base given the four on either side: what counting knows about a substitution."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from genomics.alphabet import A, T, TokenArray, reverse_complement

SIDE = 4
_BASES = T - A + 1
_WIDTH = 2 * SIDE + 1
_PLACES = np.delete(np.arange(_WIDTH), SIDE)


class FlankTable:
    """Frequencies of bases by their neighbours, both strands counted.

    Args:
        stretches: Token ids of the stretches to count, each uint8 (length,).
    """

    def __init__(self, stretches: Iterable[TokenArray]) -> None:
        counts = np.ones((_BASES ** (2 * SIDE), _BASES))  # nothing is impossible
        for tokens in stretches:
            for strand in (tokens, reverse_complement(tokens)):
                if len(strand) >= _WIDTH:
                    rows, known = _rows(sliding_window_view(strand, _WIDTH))
                    centres = strand[SIDE : len(strand) - SIDE].astype(np.int64) - A
                    np.add.at(counts, (rows[known], centres[known]), 1)
        self.log_frequencies: Float[np.ndarray, "contexts bases"] = np.log(
            counts / counts.sum(axis=1, keepdims=True)
        )

    def ratios(
        self, tokens: TokenArray, positions: Int[np.ndarray, " n"], alts: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Return the logarithm of how much more frequent ALT is than REF; NaN by an unknown base or an end.

        Args:
            tokens: Token ids of the chromosome.
            positions: 0-based.
            alts: Token ids of the new bases.
        """
        inside = (positions >= SIDE) & (positions < len(tokens) - SIDE)
        safe = np.where(inside, positions, SIDE)
        windows = tokens[safe[:, None] + np.arange(-SIDE, SIDE + 1)]
        rows, known = _rows(windows)
        rows = np.where(known, rows, 0)
        refs = np.where(known, windows[:, SIDE].astype(np.int64) - A, 0)
        found = self.log_frequencies[rows, alts - A] - self.log_frequencies[rows, refs]
        return np.where(inside & known, found, np.nan)


def _rows(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of every window's neighbours, and whether all of its bases are known."""
    codes = windows.astype(np.int64) - A
    known = np.asarray(((codes >= 0) & (codes < _BASES)).all(axis=1))
    return codes[:, _PLACES] @ _BASES ** np.arange(2 * SIDE), known
