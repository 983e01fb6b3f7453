"""Which recordings make a batch, for epochs of one or several passes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from seqmamba.errors import UserError
from seqmamba.training.batching import LengthBucketBatchSampler
from seqmamba.training.shared_order import Share

Item = tuple[int, int]
"""The pass, counted from the start of training, and a place: workers live on and must be told which."""


class TrainingOrder:
    """Batches of recordings, in an order that depends on the seed and the epoch alone.

    See `seqmamba.training.shared_order.EpochOrder`.

    Args:
        lengths: Samples of each recording.
        batch_size: Recordings in a batch of a device; all batches have as many unless there are fewer
            recordings.
        passes: Passes over all recordings in an epoch, each in an order of its own. What is left of an epoch
            that makes no whole batch of all devices is left out, other recordings in each.
        similar_lengths: Whether recordings of similar length meet, as in `LengthBucketBatchSampler`; a batch
            of a pass may be smaller then.
        seed: Seed of the orders.
        share: How many parts the batches are shared out in.

    Raises:
        UserError: If there are fewer recordings than parts of a batch.
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, " n"],
        batch_size: int,
        passes: int,
        similar_lengths: bool,
        seed: int,
        share: Share = Share(),  # noqa: B008  immutable
    ) -> None:
        self.count, self.passes, self.seed = len(lengths), passes, seed
        parts = share.ranks * share.accumulated
        available = self.count if similar_lengths else self.count * passes
        if parts > 1 and available < parts:
            raise UserError(
                f"recordings: expected at least {parts} to train on, one for each of {share.ranks} devices "
                f"and {share.accumulated} accumulated batches, got {available}"
            )
        self.size = batch_size * parts
        self._buckets: LengthBucketBatchSampler | None = None
        if similar_lengths:
            self._buckets = LengthBucketBatchSampler(
                lengths, self.size, shuffle=True, seed=seed, smallest=parts
            )

    def batches(self, epoch: int) -> list[list[Item]]:
        """Return the batches of an epoch, those of all devices in one."""
        passes = range(epoch * self.passes, (epoch + 1) * self.passes)
        if self._buckets is not None:
            return [
                [(number, place) for place in batch] for number in passes for batch in self._bucketed(number)
            ]
        generator = np.random.default_rng((self.seed, epoch))
        items = [(number, place) for number in passes for place in generator.permutation(self.count).tolist()]
        whole = max(1, len(items) // self.size)
        return [items[start : start + self.size] for start in range(0, whole * self.size, self.size)]

    def _bucketed(self, number: int) -> list[list[int]]:
        assert self._buckets is not None
        self._buckets.set_epoch(number)
        return list(self._buckets)


class WholeOrder:
    """Batches of all recordings, the longest last, the same in every epoch.

    See `seqmamba.training.shared_order.EpochOrder`.

    Args:
        lengths: Samples of each recording.
        batch_size: Recordings in a batch.
    """

    def __init__(self, lengths: Int[np.ndarray, " n"], batch_size: int) -> None:
        order = LengthBucketBatchSampler(lengths, batch_size)
        self._batches = [[(0, place) for place in batch] for batch in order]

    def batches(self, epoch: int) -> list[list[Item]]:
        """Return them."""
        return self._batches
