"""Batches of genome windows, in an order that a run can take up at any batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from genomics.alphabet import PAD, encode
from genomics.fasta import Fasta
from genomics.windows import Window, WindowConfig, WindowSampler
from seqmamba.errors import UserError
from seqmamba.training.shared_order import BatchRequest

_LOWER_CASE = 0x20  # the bit that tells ASCII's lower case from its upper case
_MOST_DRAWS = 1_000


class GenomeBatch(TypedDict):
    """Windows of one length, or shorter ones padded to it.

    Attributes:
        tokens: Ids of `genomics.alphabet`, (batch, length) uint8, padded on the right.
        lower: Whether the base is written in lower case, (batch, length) bool.
        lengths: True lengths, (batch,) int64; None if every window fills the batch.
        keys: Random bits of every window, (batch,) int64.
        genome: Which genome, (batch,) int64.
        fresh: Whether the window begins anew and does not go on where its row's window in the batch before
            ended, (batch,) bool.
    """

    tokens: Tensor
    lower: Tensor
    lengths: Tensor | None
    keys: Tensor
    genome: Tensor
    fresh: Tensor


class WindowReader:
    """Reads windows of several genomes, in this process or in forked ones.

    Args:
        fastas: The genomes.
    """

    def __init__(self, fastas: Sequence[Fasta]) -> None:
        self._fastas = list(fastas)

    def letters(self, window: Window) -> bytes:
        """Return the letters of a window."""
        return self._fastas[window.genome].letters(window.chrom, window.start, window.end)

    def known_letters(self, window: Window) -> bytes | None:
        """Return the letters of a window, None if it holds no known base."""
        letters = self.letters(window)
        return letters if letters.translate(None, b"ACGTUacgtu") != letters else None

    def collate(
        self, windows: Sequence[Window], letters: Sequence[bytes], fresh: Sequence[bool] | None = None
    ) -> GenomeBatch:
        """Make a batch of windows and their letters.

        Args:
            windows: The windows.
            letters: What they hold.
            fresh: Which of them begin anew; None says that all do.

        Raises:
            UserError: If a letter is no DNA.
        """
        sizes = [len(row) for row in letters]
        tokens = np.full((len(letters), max(sizes)), PAD, dtype=np.uint8)
        lower = np.zeros(tokens.shape, dtype=bool)
        for place, (window, row) in enumerate(zip(windows, letters, strict=True)):
            try:
                tokens[place, : len(row)] = encode(row)
            except UserError as error:
                where = f"{self._fastas[window.genome].path}: {window.chrom}:{window.start}-{window.end}"
                raise UserError(f"{where}: {error.message}", hint=error.hint) from None
            lower[place, : len(row)] = np.frombuffer(row, dtype=np.uint8) & _LOWER_CASE > 0
        return {
            "tokens": torch.from_numpy(tokens),
            "lower": torch.from_numpy(lower),
            "lengths": None if min(sizes) == max(sizes) else torch.tensor(sizes),
            "keys": torch.tensor([window.key for window in windows]),
            "genome": torch.tensor([window.genome for window in windows]),
            "fresh": torch.ones(len(windows), dtype=torch.bool) if fresh is None else torch.tensor(fresh),
        }

    def usable(self, candidates: Iterable[Window], count: int) -> list[Window]:
        """Return the first windows that hold a known base, `count` of them if there are as many."""
        found: list[Window] = []
        for window in candidates:
            if len(found) == count:
                break
            if self.known_letters(window) is not None:
                found.append(window)
        return found


class DrawnBatches(Dataset[GenomeBatch]):
    """Training batches, drawn on request.

    Args:
        reader: The genomes.
        sampler: Draws windows.
        config: How they are drawn.
    """

    def __init__(self, reader: WindowReader, sampler: WindowSampler, config: WindowConfig) -> None:
        self._reader = reader
        self._sampler = sampler
        self._config = config
        self._streams: dict[tuple[int, int], list[tuple[Window, bool]]] = {}

    def __getitem__(self, request: BatchRequest) -> GenomeBatch:
        length = self._config.length_in(request.epoch)
        if self._config.order == "stream":
            places = [divmod(number, request.total) for number in request.items]
            parts = [self._stream(request.epoch, row, length)[step] for step, row in places]
            windows = [window for window, _ in parts]
            letters = [self._reader.letters(window) for window in windows]
            return self._reader.collate(windows, letters, [fresh for _, fresh in parts])
        rows = [self._read(request.epoch, number, length) for number in request.items]
        return self._reader.collate([window for window, _ in rows], [letters for _, letters in rows])

    def _read(self, epoch: int, number: int, length: int) -> tuple[Window, bytes]:
        for attempt, window in enumerate(self._sampler.draws(epoch, number, length)):
            if letters := self._reader.known_letters(window):
                return window, letters
            if attempt == _MOST_DRAWS:
                break
        raise UserError(f"genomes: {_MOST_DRAWS} windows of {length} bases in a row held no known base")

    def _stream(self, epoch: int, row: int, length: int) -> list[tuple[Window, bool]]:
        """Return what a row reads in an epoch, which is remembered until the next one."""
        if (epoch, row) not in self._streams:
            self._streams = {key: value for key, value in self._streams.items() if key[0] == epoch}
            self._streams[epoch, row] = self._sampler.stream(epoch, row, self._config.steps_per_epoch, length)
        return self._streams[epoch, row]


class FixedBatches(Dataset[GenomeBatch]):
    """Batches of a fixed list of windows.

    Args:
        reader: The genomes.
        windows: The list.
        batch_size: Windows of a batch.
        rank: Which device's share to read.
        world_size: Number of devices.
    """

    def __init__(
        self, reader: WindowReader, windows: Sequence[Window], batch_size: int, rank: int, world_size: int
    ) -> None:
        self._reader = reader
        own = list(windows)[rank::world_size]
        self._batches = [own[start : start + batch_size] for start in range(0, len(own), batch_size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> GenomeBatch:
        windows = self._batches[index]
        return self._reader.collate(windows, [self._reader.letters(window) for window in windows])


class WindowOrder:
    """The windows of an epoch, by their numbers; see `seqmamba.training.shared_order.EpochOrder`.

    Args:
        config: Lengths and sizes.
        ranks: Devices that take different windows.
    """

    def __init__(self, config: WindowConfig, ranks: int) -> None:
        self._config, self._ranks = config, ranks

    def batches(self, epoch: int) -> list[range]:
        """Return the numbers of the windows that all devices take at a time."""
        size = self._config.batch_size_in(epoch) * self._ranks
        return [range(step * size, (step + 1) * size) for step in range(self._config.steps_per_epoch)]
