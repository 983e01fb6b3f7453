"""Likelihood ratios of variants, masked and causal.

They compare the alternative allele with the reference: a negative one means that the model expects it less.
Logarithms are natural. Likelihoods are those of A, C, G and T among themselves; other tokens of a vocabulary
have no say, and unknown bases (N) are not scored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genomics.alphabet import MASK, A, N, TokenArray
from genomics.language_reader import LanguageReader
from genomics.variant_results import Score
from genomics.variants import Haplotypes
from seqmamba.errors import UserError

FloatArray = npt.NDArray[np.float64]

FLANK = 8  # bases on each side that the likelihood of an insertion or deletion includes
STRIDE = 7  # of them one in seven is hidden at once, 14 %; in training it was 15 %
_EYE = np.eye(4)


class Batches:
    """Applies a model to many sequences: equal ones once, those of one length together, none padded.

    Args:
        device: Where the model is.
        bases: Bases in a batch; a longer sequence is a batch of its own.
    """

    def __init__(self, device: torch.device, bases: int) -> None:
        self._device = device
        self._bases = bases

    @torch.inference_mode()
    def __call__(
        self, function: Callable[[Tensor], Sequence[Tensor]], sequences: Sequence[TokenArray]
    ) -> list[FloatArray]:
        """Return the function's results in the order of the sequences.

        Args:
            function: Takes int64 ids of `genomics.alphabet`, (batch, length), and returns one float64 tensor
                on the CPU a row.
            sequences: uint8 ids.
        """
        unique = {sequence.tobytes(): sequence for sequence in sequences}
        by_length: dict[int, list[bytes]] = defaultdict(list)
        for key in unique:
            by_length[len(key)].append(key)
        results: dict[bytes, FloatArray] = {}
        for length, keys in by_length.items():
            rows = max(1, self._bases // length)
            for start in range(0, len(keys), rows):
                batch = keys[start : start + rows]
                tokens = torch.from_numpy(np.stack([unique[key] for key in batch]))
                found = function(tokens.to(self._device).long())
                results.update(zip(batch, (row.numpy() for row in found), strict=True))
        return [results[sequence.tobytes()] for sequence in sequences]


class StrandScores(ABC):
    """Scores of pairs of windows, read on the strand that they are given on.

    Attributes:
        scores: Names and descriptions of the columns.
        symmetric: Whether the other strand gives the same by construction.
    """

    scores: tuple[Score, ...]
    symmetric: bool

    @abstractmethod
    def measure(self, pairs: Sequence[Haplotypes]) -> Float[np.ndarray, "pairs scores"]:
        """Score pairs of windows; where a score does not apply, its value means nothing."""

    def applies(self, pairs: Sequence[Haplotypes]) -> Bool[np.ndarray, "pairs scores"]:
        """Say which scores apply to which pairs."""
        return np.ones((len(pairs), len(self.scores)), dtype=np.bool_)


def both_windows(
    batches: Batches, function: Callable[[Tensor], Tensor], pairs: Sequence[Haplotypes]
) -> tuple[FloatArray, FloatArray]:
    """Apply a function with one result a row to the reference windows and to the alternative ones."""
    windows = [*(pair.ref for pair in pairs), *(pair.alt for pair in pairs)]
    results = np.stack(batches(lambda tokens: function(tokens).double().cpu().unbind(), windows))
    return results[: len(pairs)], results[len(pairs) :]


def _full(tokens: Tensor) -> Int[Tensor, " batch"]:
    """Return the lengths of sequences without padding."""
    return torch.full((len(tokens),), tokens.shape[1], device=tokens.device)


class MaskedScores(StrandScores):
    """Likelihood ratios by a model that guesses hidden bases.

    A substitution hides the bases that it changes, all at once, and compares the two alleles there. With h
    the positions and x the window, it is ``sum over i in h of ln p(alt_i | x without h) - ln p(ref_i | x
    without h)``: for one base the score of GPN (Benegas et al. 2023, doi:10.1073/pnas.2311219120).

    An insertion or deletion has no context that both alleles share. It is scored by the difference of two
    pseudo-log-likelihoods (Salazar et al. 2020, arXiv:1910.14659, section 2), of the alternative window and
    of the reference. Each is the mean over the bases that the variant may stand for and `FLANK` more on both
    sides: a mean, so that an allele does not lose by its length. In a repeat these are all the bases where
    the same variant could be written. Every `STRIDE`-th of them is hidden at once, so that a window takes at
    most `STRIDE` passes, however long the allele. The mean is not on the scale of the sum and is a score of
    its own.

    Args:
        reader: The model.
        batches: How to run it.

    Raises:
        UserError: If it is not known which token hides a base.
    """

    scores = (
        Score(
            "LLR",
            "ln p(ALT) - ln p(REF) of the changed bases while they are hidden, for alleles of one length; "
            "negative: less likely than REF",
        ),
        Score(
            "PLLR",
            "mean ln p(base) with ALT minus with REF, over the bases inserted or deleted and "
            f"{FLANK} on each side, each while hidden; negative: less likely than REF",
        ),
    )

    def __init__(self, reader: LanguageReader, batches: Batches) -> None:
        if reader.vocabulary.mask is None:
            raise UserError("--scores llr: the checkpoint does not say which token hides a base")
        self.symmetric = reader.averages_strands
        self._reader = reader
        self._batches = batches

    def measure(self, pairs: Sequence[Haplotypes]) -> FloatArray:
        """Return the two likelihood ratios, of which one applies."""
        questions = [list(_questions(pair)) for pair in pairs]
        log_p = iter(self._batches(self._guess, [question.window for row in questions for question in row]))
        values = np.zeros((len(pairs), 2))
        for row, asked in enumerate(questions):
            column = 0 if pairs[row].substitution else 1
            values[row, column] = sum((question.weights * next(log_p)).sum() for question in asked)
        return values

    def applies(self, pairs: Sequence[Haplotypes]) -> npt.NDArray[np.bool_]:
        """Say which of the two applies; none if only unknown bases are left around a deletion."""
        return np.array(
            [
                (True, False) if pair.substitution else (False, all(map(len, _affected(pair))))
                for pair in pairs
            ]
        )

    def _guess(self, tokens: Tensor) -> Sequence[Tensor]:
        """Return ln p of A, C, G and T at the hidden positions of every row."""
        hidden = tokens == MASK
        logits = self._reader(tokens, _full(tokens))[hidden]
        return logits.double().log_softmax(dim=-1).cpu().split(hidden.sum(dim=1).tolist())


class _Question(NamedTuple):
    """A window with hidden bases, and the weights of ln p of A, C, G and T at each of them in a score."""

    window: TokenArray
    weights: FloatArray


def _questions(pair: Haplotypes) -> Iterator[_Question]:
    if pair.substitution:
        changed = np.flatnonzero(pair.ref != pair.alt)
        yield _hide(pair.ref, changed, _one_hot(pair.alt[changed]) - _one_hot(pair.ref[changed]))
        return
    ref, alt = _affected(pair)
    for window, positions, sign in ((pair.ref, ref, -1), (pair.alt, alt, 1)):
        for phase in range(min(STRIDE, len(positions))):
            chosen = positions[phase::STRIDE]
            yield _hide(window, chosen, _one_hot(window[chosen]) * (sign / len(positions)))


def _affected(pair: Haplotypes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of the known bases that an insertion or deletion is scored over."""
    ref, alt = (
        first + np.flatnonzero(window[first : end + FLANK] != N)
        for window, (start, end) in ((pair.ref, pair.ref_span), (pair.alt, pair.alt_span))
        for first in (max(0, start - FLANK),)
    )
    return ref, alt


def _hide(window: TokenArray, positions: npt.NDArray[np.intp], weights: FloatArray) -> _Question:
    hidden = window.copy()
    hidden[positions] = MASK
    return _Question(hidden, weights)


def _one_hot(bases: TokenArray) -> FloatArray:
    return _EYE[bases - A]


class CausalScores(StrandScores):
    """The likelihood ratio of whole windows by a model that guesses the next base.

    ``sum over i > 0 of ln p(alt_i | alt_<i) - sum over i > 0 of ln p(ref_i | ref_<i)``, with the windows in
    place of the alleles. Both windows have equally many bases, whatever the lengths of the alleles. The first
    base has nothing in front of it and is not scored.

    Args:
        reader: The model.
        batches: How to run it.
    """

    scores = (
        Score(
            "LLR",
            "ln p(window with ALT) - ln p(window with REF), base after base, windows of one length; "
            "negative: less likely than REF",
        ),
    )
    symmetric = False

    def __init__(self, reader: LanguageReader, batches: Batches) -> None:
        self._reader = reader
        self._batches = batches

    def measure(self, pairs: Sequence[Haplotypes]) -> FloatArray:
        """Return the likelihood ratio of the windows."""
        ref, alt = both_windows(self._batches, self._likelihood, pairs)
        return (alt - ref)[:, None]

    def _likelihood(self, tokens: Tensor) -> Tensor:
        log_p = self._reader(tokens, _full(tokens))[:, :-1].double().log_softmax(dim=-1)
        truth = tokens[:, 1:]
        found = log_p.gather(-1, (truth - A).clamp(0, 3)[..., None])[..., 0]
        return found.masked_fill(truth == N, 0).sum(dim=1)
