"""Batches of sequences of similar length, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

_WIDTH_OF_A_BUCKET = 1.25


class LengthBucketBatchSampler(Sampler[list[int]]):
    """Group sequences of similar length into batches, to waste little on padding.

    Lengths are rounded up to a geometric grid (each step 25 % longer), so that at most a fifth of a batch is
    padding and sequences of a bucket still mix freely. Which sequences meet and the order of the batches are
    drawn anew every epoch from ``(seed, epoch)`` only: a resumed run sees the batches that it would have
    seen. The number of batches never changes. Equal lengths give plain shuffled batches.

    Args:
        lengths: Number of tokens of every sequence, shape (n,).
        batch_size: Sequences in a batch; exclusive with `max_tokens`.
        max_tokens: Tokens in a batch, padding included; a longer sequence makes a batch of its own.
        shuffle: Whether to draw a new order every epoch. Without it: longest last, ties in the order of the
            data.
        seed: Seed of the order.
        drop_last: Whether to leave out a last batch that is smaller than `batch_size`.
        smallest: Sequences of a batch at least: if the last has fewer, they join the batch before it.

    Raises:
        ValueError: If not exactly one of `batch_size` and `max_tokens` is a positive number.
    """

    def __init__(
        self,
        lengths: Sequence[int] | npt.NDArray[np.integer],
        batch_size: int | None = None,
        max_tokens: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        smallest: int = 1,
    ) -> None:
        limit = batch_size if max_tokens is None else max_tokens
        if (batch_size is None) == (max_tokens is None) or limit is None or limit < 1:
            raise ValueError(
                "exactly one of batch_size and max_tokens must be a positive number, "
                f"got batch_size={batch_size} and max_tokens={max_tokens}"
            )
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self._keys = _round_up(np.asarray(lengths, dtype=np.int64))
        self._cuts = _cut(np.sort(self._keys), batch_size, max_tokens)
        if (
            drop_last
            and batch_size is not None
            and self._cuts
            and len(self._keys) - self._cuts[-1][0] < batch_size
        ):
            self._cuts.pop()
        if len(self._cuts) > 1 and self._cuts[-1][1] - self._cuts[-1][0] < smallest:
            last = self._cuts.pop()
            self._cuts[-1] = (self._cuts[-1][0], last[1])

    @property
    def sampler(self) -> LengthBucketBatchSampler:
        """The object whose `set_epoch` Lightning calls before every epoch: ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws its order for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._cuts)

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            order = np.argsort(self._keys, kind="stable")
            yield from (order[start:stop].tolist() for start, stop in self._cuts)
            return
        generator = np.random.default_rng((self.seed, self.epoch))
        mixed = generator.permutation(len(self._keys))
        order = mixed[np.argsort(self._keys[mixed], kind="stable")]
        for number in generator.permutation(len(self._cuts)).tolist():
            start, stop = self._cuts[number]
            yield order[start:stop].tolist()


def already_a_batch(batch: Any) -> Any:
    """Collate what a data set made a batch of by itself, by ``__getitems__``; workers can be sent it."""
    return batch


def _round_up(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Round lengths up to the grid, but never above the longest length that is there."""
    if len(lengths) == 0 or lengths.min() == lengths.max():
        return lengths
    steps = np.ceil(np.log(np.maximum(lengths, 1)) / math.log(_WIDTH_OF_A_BUCKET) - 1e-9)
    grid = np.ceil(_WIDTH_OF_A_BUCKET**steps).astype(np.int64)
    return np.minimum(np.maximum(grid, lengths), lengths.max())


def _cut(
    sorted_keys: npt.NDArray[np.int64], batch_size: int | None, max_tokens: int | None
) -> list[tuple[int, int]]:
    """Cut sequences sorted by length into batches; depends on lengths only, so every epoch has as many."""
    n = len(sorted_keys)
    if max_tokens is None:
        assert batch_size is not None
        return [(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
    cuts: list[tuple[int, int]] = []
    start = 0
    for stop, longest in enumerate(sorted_keys.tolist()):
        if stop > start and (stop - start + 1) * longest > max_tokens:
            cuts.append((start, stop))
            start = stop
    return [*cuts, (start, n)] if n else []
