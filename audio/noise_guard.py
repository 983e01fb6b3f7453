"""A guard against runaway noise in generated sound, and the way back from it.

A model that draws its own input can leave what it knows: its predictions flatten, what it draws is noise,
and noise is what it then goes on from. SaShiMi's authors report this of long samples. Here each block is
judged by three signs that noise has together: it is loud, its spectrum is flat, and the model has next to no
idea of the next sample. Of 11,350 quarter-seconds of spoken digits, music and sounds of the surroundings, two
have even the first two of them. A sequence whose block is noise goes back to the state before it and draws on
with other random numbers, then from further back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seqmamba.inference import Decoder, Generation, SamplingConfig, TokenModel
from seqmamba.nn.options import is_number, require, require_whole
from seqmamba.nn.state import concatenate_states, select_rows

_FRAME = 256
_LEAST_POWER = 1e-20
_OTHER_NUMBERS = 2**40  # makes new rows of random numbers; sequences have smaller numbers


@dataclass(frozen=True)
class GuardConfig:
    """What counts as noise, and how often to try again. A block is noise if all three signs are there.

    Args:
        min_rms: Root mean square of the samples, 1 being full scale.
        min_flatness: Spectral flatness: 1 for white noise, near 0 for tones.
        min_bits: Mean surprise of a sample as a share of the bits of its code: 1 if all codes are equally
            likely.
        history: Blocks that are held back before they are given out; so far back a restart may go.
        max_restarts: Tries to replace one block; then the sequence is left alone, and reported.

    Raises:
        UserError: If a value is out of range.
    """

    _: KW_ONLY
    min_rms: float = 0.05
    min_flatness: float = 0.5
    min_bits: float = 0.8
    history: int = 4
    max_restarts: int = 8

    def __post_init__(self) -> None:
        for name in ("min_rms", "min_flatness", "min_bits"):
            value = getattr(self, name)
            require(is_number(value) and 0 <= value <= 1, name, "a number from 0 to 1", value)
        require_whole("history", self.history)
        require_whole("max_restarts", self.max_restarts)


def root_mean_square(waveform: Float[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
    """Return the root mean square of each row, 1 being full scale."""
    return waveform.square().mean(dim=-1).sqrt()


def spectral_flatness(waveform: Float[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
    """Return the geometric over the arithmetic mean of each row's power spectrum, averaged over frames.

    Wiener's measure (Johnston 1988, "Transform coding of audio signals using perceptual noise criteria",
    section III), over Welch's average of frames of 256 samples that overlap by half; the mean of a frame is
    left out. Rows shorter than a frame count as one frame.
    """
    frame = min(_FRAME, waveform.shape[-1])
    frames = waveform.unfold(-1, frame, max(1, frame // 2))
    window = torch.hann_window(frame, device=waveform.device)
    frames = (frames - frames.mean(dim=-1, keepdim=True)) * window
    power = torch.fft.rfft(frames).abs().square().mean(dim=-2)[..., 1:]
    if power.shape[-1] == 0:
        return waveform.new_zeros(waveform.shape[:-1])
    power = power + _LEAST_POWER
    return (power.log().mean(dim=-1).exp() / power.mean(dim=-1)).clamp(max=1.0)  # rounding


def is_noise(
    waveform: Float[Tensor, "batch length"],
    bits: Float[Tensor, "batch length"],
    code_bits: int,
    config: GuardConfig,
) -> Bool[Tensor, " batch"]:
    """Tell which rows of a block are noise.

    Args:
        waveform: Samples.
        bits: The model's surprise at each, in bits.
        code_bits: Bits of a sample's code.
        config: The limits.
    """
    loud = root_mean_square(waveform) >= config.min_rms
    flat = spectral_flatness(waveform) >= config.min_flatness
    clueless = bits.mean(dim=-1) >= config.min_bits * code_bits
    return loud & flat & clueless


class Stretch(NamedTuple):
    """Tokens that follow each other.

    Attributes:
        tokens: int64.
        log_probs: Natural logarithms of the model's probabilities, neither tempered nor cut.
    """

    tokens: Int[Tensor, "batch length"]
    log_probs: Float[Tensor, "batch length"]


Judge = Callable[[Stretch], Tensor]
"""Tells which rows of a stretch are noise: bool (batch,)."""


class Setback(NamedTuple):
    """A block that was noise.

    Attributes:
        row: Of the batch.
        token: Where the block begins.
        tries: How often it was drawn again.
        replaced: Whether that helped.
    """

    row: int
    token: int
    tries: int
    replaced: bool


@dataclass
class _Held:
    """A block that may still be replaced, and the state before it."""

    start: Generation
    stretch: Stretch


class GuardedGeneration:
    """Generates block by block, and replaces what is noise before it is given out.

    With the same seed and the same blocks it gives the same tokens; a sequence in which nothing is noise gets
    those that it would get without a guard.

    Args:
        model: A causal language model.
        start: What `seqmamba.inference.begin` returned.
        sampling: How tokens are drawn.
        judge: What noise is.
        config: How to go back.
    """

    def __init__(
        self,
        model: TokenModel,
        start: Generation,
        sampling: SamplingConfig,
        judge: Judge,
        config: GuardConfig,
    ) -> None:
        self._model, self._sampling, self._judge, self._config = model, sampling, judge, config
        self._state = start
        self._held: deque[_Held] = deque()
        self.restarts = 0
        """How often a sequence was set back."""
        self.setbacks: list[Setback] = []
        """The blocks that were noise, in the order in which they came."""
        self.given_up = torch.zeros_like(start.done)
        """Which sequences were left alone after too many tries."""

    def blocks(
        self, n_tokens: int, block: int, on_block: Callable[[int], None] | None = None
    ) -> Iterator[Stretch]:
        """Generate.

        Args:
            n_tokens: Tokens of each row.
            block: Tokens of a block.
            on_block: Called when a block is drawn and is no noise any more, with the number of its tokens.

        Yields:
            The blocks, ``history`` of them behind what is being made.
        """
        decoder = Decoder(self._model, self._state, self._sampling)
        for begin in range(0, n_tokens, block):
            part = decoder.advance(min(block, n_tokens - begin))
            self._held.append(_Held(self._state, Stretch(part.tokens, part.log_probs)))
            self._state = part.state
            noisy = self._judge(self._held[-1].stretch) & ~self.given_up
            if noisy.any():
                self._replace(noisy, begin)
                decoder = Decoder(self._model, self._state, self._sampling)
            if on_block is not None:
                on_block(part.tokens.numel())
            if len(self._held) > self._config.history:
                yield self._held.popleft().stretch
        while self._held:
            yield self._held.popleft().stretch

    def _replace(self, noisy: Tensor, begin: int) -> None:
        """Draw the last block of some rows again, and where that does not help those before it too."""
        left = noisy.nonzero()[:, 0]
        for tries in range(1, self._config.max_restarts + 1):
            tried, left = left, self._try(left, depth=min(tries, len(self._held)))
            solved = tried[~torch.isin(tried, left)].tolist()
            self.setbacks += [Setback(row, begin, tries, True) for row in solved]
            if not len(left):
                return
        self.setbacks += [Setback(row, begin, self._config.max_restarts, False) for row in left.tolist()]
        self.given_up[left] = True

    def _try(self, rows: Tensor, depth: int) -> Tensor:
        """Draw the last ``depth`` blocks of some rows with other numbers; return those still noise."""
        self.restarts += len(rows)
        held = list(self._held)[-depth:]
        state = held[0].start.select(rows)
        state = state._replace(rows=state.rows % _OTHER_NUMBERS + self.restarts * _OTHER_NUMBERS)
        decoder = Decoder(self._model, state, self._sampling, graph=False)
        starts, made, again = [], [], torch.zeros_like(rows, dtype=torch.bool)
        for old in held:
            starts.append(state)
            part = decoder.advance(old.stretch.tokens.shape[1])
            made.append(Stretch(part.tokens, part.log_probs))
            again |= self._judge(made[-1])
            state = part.state
        good = ~again
        for old, start, new in zip(held, starts, made, strict=True):
            if old is not held[0]:  # what was before the first is as it was
                old.start = _put(old.start, rows[good], start.select(good))
            for whole, some in zip(old.stretch, new, strict=True):
                whole[rows[good]] = some[good]
        self._state = _put(self._state, rows[good], state.select(good))
        return rows[again]


def _put(state: Generation, rows: Tensor, new: Generation) -> Generation:
    """Return a state in which some rows are replaced."""
    index = torch.arange(len(state.rows), device=rows.device)
    index[rows] = len(state.rows) + torch.arange(len(rows), device=rows.device)
    return select_rows(concatenate_states([state, new]), index)
