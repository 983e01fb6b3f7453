"""Which recordings make a batch, for epochs of one or several passes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from torch.utils.data import Sampler

from seqmamba.training.batching import LengthBucketBatchSampler

Item = tuple[int, int]
"""The pass, counted from the start of training, and a place: workers live on and must be told which."""


class TrainingOrder(Sampler[list[Item]]):
    """Batches of recordings, in an order that depends on the seed and the epoch alone.

    Args:
        lengths: Samples of each recording.
        batch_size: Recordings in a batch; all batches have as many unless there are fewer recordings.
        passes: Passes over all recordings in an epoch, each in an order of its own. What is left of an epoch
            that makes no whole batch is left out, other recordings in each.
        similar_lengths: Whether recordings of similar length meet, as in `LengthBucketBatchSampler`; the last
            batch of a pass may be smaller then.
        seed: Seed of the orders.
    """

    def __init__(
        self, lengths: Int[np.ndarray, " n"], batch_size: int, passes: int, similar_lengths: bool, seed: int
    ) -> None:
        self.count, self.batch_size, self.passes, self.seed = len(lengths), batch_size, passes, seed
        self.epoch = 0
        self._buckets: LengthBucketBatchSampler | None = None
        if similar_lengths:
            self._buckets = LengthBucketBatchSampler(lengths, batch_size, shuffle=True, seed=seed)

    @property
    def sampler(self) -> TrainingOrder:
        """The object whose `set_epoch` Lightning calls before every epoch: ``batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws for."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self._buckets is not None:
            return self.passes * len(self._buckets)
        return max(1, self.count * self.passes // self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        first = self.epoch * self.passes
        if self._buckets is not None:
            for number in range(first, first + self.passes):
                self._buckets.set_epoch(number)
                yield from ([(number, place) for place in batch] for batch in self._buckets)
            return
        generator = np.random.default_rng((self.seed, self.epoch))
        items = [
            (number, place)
            for number in range(first, first + self.passes)
            for place in generator.permutation(self.count).tolist()
        ]
        for batch in range(len(self)):
            yield items[batch * self.batch_size : (batch + 1) * self.batch_size]


def whole_set(lengths: Int[np.ndarray, " n"], batch_size: int) -> list[list[Item]]:
    """Return batches of all recordings, the longest last.

    Args:
        lengths: Samples of each recording.
        batch_size: Recordings in a batch.
    """
    order = LengthBucketBatchSampler(lengths, batch_size)
    return [[(0, place) for place in batch] for batch in order]
