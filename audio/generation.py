"""Sound from a `WaveformModel`: recordings side by side, block by block, in memory that does not grow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio.class_rows import ClassesSideBySide, ClassRows, ClassState
from audio.noise_guard import GuardConfig, GuardedGeneration, Setback, Stretch, is_noise
from audio.waveform_model import Network, WaveformModel
from seqmamba.errors import UserError
from seqmamba.inference import Decoder, Generation, SamplingConfig, begin
from seqmamba.nn.options import is_number, require, require_whole
from seqmamba.nn.state import concatenate_states

MOST_ROWS = 2**24
"""Recordings of one class that have random numbers of their own."""


@dataclass(frozen=True)
class GenerationConfig:
    """How sound is made.

    Args:
        seconds: Length of each recording.
        sampling: How samples are drawn. A sample is set by the model, the seed, the class, the number of its
            recording and its place in it: not by the batch, and without a guard not by the block.
        guard: What counts as runaway noise; None keeps no guard.
        batch_size: Recordings made side by side.
        block_seconds: What is made before it is looked at and written.

    Raises:
        UserError: If a value is out of range.
    """

    seconds: float
    _: KW_ONLY
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    guard: GuardConfig | None = field(default_factory=GuardConfig)
    batch_size: int = 64
    block_seconds: float = 0.25

    def __post_init__(self) -> None:
        for name in ("seconds", "block_seconds"):
            value = getattr(self, name)
            require(is_number(value) and value > 0, name, "a number > 0", value)
        require_whole("batch_size", self.batch_size)


class WaveformBlock(NamedTuple):
    """The next samples of recordings that are made side by side.

    Attributes:
        waveform: float32 in [-1, 1], on the CPU.
        bits: The model's surprise at each sample: -log2 of its probability, neither tempered nor cut.
    """

    waveform: Float[Tensor, "batch length"]
    bits: Float[Tensor, "batch length"]


class Generator:
    """Makes recordings side by side, of one class or of several.

    Args:
        model: What to draw from, on the device where it is to run.
        config: How.
        label: Class; None for none.
        rows: Number of recordings.
        first_row: Number of the first among all of its class.
        beside: Recordings of other classes that are made in the same batch, behind these.
        prefix: Codes that all continue; None starts from silence.
        on_block: Called whenever a block was drawn, with the number of its samples.

    Raises:
        UserError: If the model knows no such class, or the recordings are shorter than a sample.
    """

    def __init__(
        self,
        model: WaveformModel,
        config: GenerationConfig,
        *,
        label: str | None = None,
        rows: int = 1,
        first_row: int = 0,
        beside: Sequence[ClassRows] = (),
        prefix: Int[Tensor, " length"] | None = None,
        on_block: Callable[[int], None] | None = None,
    ) -> None:
        self._groups = (ClassRows(label, rows, first_row), *beside)
        for group in self._groups:
            require_whole("rows", group.rows)
            end = group.first_row + group.rows
            require(end <= MOST_ROWS, "rows", f"at most {MOST_ROWS:,} recordings of a class", end)
            model.class_number(group.label)  # refuses what it does not know
        self._model, self._config = model, config
        self.n_samples = round(config.seconds * model.config.rate)
        self._block = max(1, round(config.block_seconds * model.config.rate))
        if self.n_samples < 1:
            raise UserError(
                f"seconds: expected at least a sample (1/{model.config.rate} s), got {config.seconds}"
            )
        self._network: Network | ClassesSideBySide = (
            ClassesSideBySide(model) if beside else model.of_class(label)
        )
        self._prefix, self._on_block = prefix, on_block
        self.restarts = 0
        """How often a recording was set back because it was noise."""
        self.setbacks: list[Setback] = []
        """Where, and how often each was made again."""
        self.noisy = torch.zeros(sum(group.rows for group in self._groups), dtype=torch.bool)
        """Which recordings are noise all the same."""

    def blocks(self) -> Iterator[WaveformBlock]:
        """Generate.

        Yields:
            Blocks of samples, made while they are asked for.
        """
        start = self._begin()
        stretches = self._unguarded(start) if self._config.guard is None else self._guarded(start)
        for stretch in stretches:
            bits = -stretch.log_probs / math.log(2)
            yield WaveformBlock(self._model.decode(stretch.tokens)[..., 0].cpu(), bits.cpu())

    def _begin(self) -> Generation:
        silence = torch.tensor([self._model.config.silence])
        prompt = silence if self._prefix is None else torch.cat((silence, self._prefix.cpu()))
        starts, classes = [], []
        for group in self._groups:
            number = self._model.class_number(group.label)
            first = number * MOST_ROWS + group.first_row
            network = self._model.of_class(group.label)
            starts.append(begin(network, prompt[None], batch_size=group.rows, first_row=first))
            classes += [number] * group.rows
        if len(starts) == 1:
            return starts[0]
        start = concatenate_states(starts)
        return start._replace(model=ClassState(start.tokens.new_tensor(classes), start.model))

    def _unguarded(self, start: Generation) -> Iterator[Stretch]:
        decoder = Decoder(self._network, start, self._config.sampling)
        for done in range(0, self.n_samples, self._block):
            part = decoder.advance(min(self._block, self.n_samples - done))
            self._drawn(part.tokens.numel())
            yield Stretch(part.tokens, part.log_probs)

    def _guarded(self, start: Generation) -> Iterator[Stretch]:
        assert self._config.guard is not None
        guard, sampling = self._config.guard, self._config.sampling
        guarded = GuardedGeneration(self._network, start, sampling, self._judge, guard)
        yield from guarded.blocks(self.n_samples, self._block, on_block=self._drawn)
        self.restarts, self.setbacks = guarded.restarts, guarded.setbacks
        self.noisy = guarded.given_up.cpu()

    def _drawn(self, samples: int) -> None:
        if self._on_block is not None:
            self._on_block(samples)

    def _judge(self, stretch: Stretch) -> Tensor:
        assert self._config.guard is not None
        waveform = self._model.decode(stretch.tokens)[..., 0]
        bits = -stretch.log_probs / math.log(2)
        return is_noise(waveform, bits, self._model.config.bits, self._config.guard)


class Speed:
    """How fast samples come, from now on.

    Args:
        rate: Samples a second of the recordings.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.samples = 0
        self.seconds = 0.0
        self.start_up: float | None = None
        self._later_samples = 0
        self._begun = time.perf_counter()

    def count(self, samples: int) -> None:
        """Note that so many samples have come, all recordings together."""
        self.seconds = time.perf_counter() - self._begun
        self.samples += samples
        if self.start_up is None:
            self.start_up = self.seconds
        else:
            self._later_samples += samples

    @property
    def samples_per_second(self) -> float:
        """All but those of the first block, in which kernels are compiled, unless it is the only one."""
        if self._later_samples and self.start_up is not None:
            return self._later_samples / max(self.seconds - self.start_up, 1e-9)
        return self.samples / max(self.seconds, 1e-9)

    @property
    def real_time_factor(self) -> float:
        """Seconds that a second of sound takes: below 1 is faster than it plays."""
        return self.rate / max(self.samples_per_second, 1e-9)


def keep_likely(bits: Sequence[float], *, drop_unlikely: float = 0.4, drop_likely: float = 0.05) -> list[int]:
    """Choose recordings by their likelihood, as SaShiMi's samples were (arXiv:2202.09729, appendix C).

    The least likely are broken, the very likeliest are silence.

    Args:
        bits: Mean bits a sample of each recording.
        drop_unlikely: Share of the recordings with most bits to leave out.
        drop_likely: Share of those with fewest bits to leave out.

    Returns:
        Positions of those that stay, in their order; at least one if there is any.

    Raises:
        UserError: If the shares are out of range.
    """
    for name, share in (("drop_unlikely", drop_unlikely), ("drop_likely", drop_likely)):
        require(is_number(share) and 0 <= share < 1, name, "a number in [0, 1)", share)
    if drop_unlikely + drop_likely >= 1:
        raise UserError(
            f"drop_unlikely, drop_likely: expected a sum below 1, got {drop_unlikely + drop_likely}"
        )
    ranked = sorted(range(len(bits)), key=lambda i: (bits[i], i))
    first = math.floor(drop_likely * len(ranked))
    last = max(first + 1, len(ranked) - math.floor(drop_unlikely * len(ranked)))
    return sorted(ranked[first:last])


def candidates_for(count: int, *, drop_unlikely: float = 0.4, drop_likely: float = 0.05) -> int:
    """Return how many candidates to make for `keep_likely` to leave ``count`` of them or a few more."""
    return math.ceil(count / (1 - drop_unlikely - drop_likely) - 1e-9)
