"""Scoring a chromosome with a causal language model and its carried state: every base in full context."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int

from genomics.alphabet import N, TokenArray
from genomics.language_reader import SCORES, LanguageReader, language_scores, require_finite
from seqmamba.errors import UserError
from seqmamba.inference import CausalModel, Stream, load_state, save_state
from seqmamba.nn import Attention

GAP = 1_000
"""Bases of a run of N after which a model starts afresh: what lies beyond is another contig."""


class CarriedScores:
    """Scores one sequence piece by piece; how it is cut does not matter but for rounding.

    Unknown bases have no score, nor has the first base of a sequence or behind a run of more than `GAP` of
    them. Those of shorter runs, and the first `GAP` of longer ones, are read as such.

    Args:
        reader: A causal language model over DNA.
        chunk: Bases of one call of the model.

    Raises:
        UserError: If the model's state grows without bound.
    """

    def __init__(self, reader: LanguageReader, chunk: int) -> None:
        if any(isinstance(part, Attention) and part.window is None for part in reader.model.modules()):
            raise UserError(
                "the model remembers every base (its attention has no window), which no chromosome fits in",
                hint="--window reads the genome in windows",
            )
        self.reader = reader
        self._chunk = chunk
        self._stream = Stream(cast(CausalModel, reader.model))
        self.restart()

    def restart(self) -> None:
        """Start a new sequence."""
        self._unknown = 0
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._stream.restart()
        # What is expected next: nothing yet
        self._expected = torch.full((1, 1, 4), math.nan, device=self.reader.bases.device)

    def feed(self, tokens: TokenArray) -> Float[np.ndarray, "length scores"]:
        """Score the next bases.

        Args:
            tokens: Ids of `genomics.alphabet`.

        Returns:
            `SCORES` of every base, float32; NaN where there are none.
        """
        scores = np.full((len(tokens), len(SCORES)), np.nan, dtype=np.float32)
        unknown = self._count_unknown(tokens)
        for start, end in _runs(unknown <= GAP):
            if start > 0 or self._unknown > GAP:
                self._start_afresh()
            for left in range(start, end, self._chunk):
                right = min(left + self._chunk, end)
                scores[left:right] = self._score(tokens[left:right])
        self._unknown = int(unknown[-1])
        scores[tokens == N] = np.nan
        return scores

    def _count_unknown(self, tokens: TokenArray) -> Int[np.ndarray, " length"]:
        """Return for every base the number of unknown bases that end with it."""
        known = np.flatnonzero(tokens != N)
        last_known = np.full(len(tokens), -1 - self._unknown)
        last_known[known] = known
        return np.arange(len(tokens)) - np.maximum.accumulate(last_known)

    def _score(self, tokens: TokenArray) -> np.ndarray:
        truth = torch.from_numpy(tokens.astype(np.int64))[None].to(self.reader.ids.device)
        logits = require_finite(self.reader.pick(self._stream.feed(self.reader.ids[truth])).float())
        expected = torch.cat((self._expected, logits[:, :-1]), dim=1)
        self._expected = logits[:, -1:]
        return language_scores(expected, truth)[0].cpu().numpy()

    def save(self, path: Path) -> None:
        """Write everything that the next bases depend on, whole or not at all."""
        save_state(path, self._memory())

    def load(self, path: Path) -> None:
        """Go on where `save` was called, bit for bit.

        Raises:
            UserError: If the file is damaged or of another model.
        """
        self.restart()
        self._stream.state, self._expected, self._unknown = load_state(path, self._memory())

    def _memory(self) -> Any:
        return self._stream.state, self._expected, self._unknown


def _runs(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield start and end of every stretch of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
