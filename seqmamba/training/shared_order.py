"""One order of samples for any number of devices and of workers, which a run can take up at any place.

An epoch is a list of global batches: what all devices see between two steps of the optimiser, or a part of
that. The list is a function of the seed and the epoch alone. Every global batch is cut into shares, in its
order: one for each device and each of the batches whose gradients are accumulated. So the only thing that a
checkpoint has to hold is how many samples of the epoch are done; with another number of devices, another
number of samples a device or other workers, as long as they make the same global batches, a run goes on with
the samples that it would have seen, none twice and none left out. Worker processes are handed finished
requests and have no say in the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import lightning as L
import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from seqmamba.errors import UserError
from seqmamba.training.batching import already_a_batch


class Share(NamedTuple):
    """Which part of every global batch a device takes.

    Attributes:
        rank: The device, from 0.
        ranks: Number of devices that take different parts.
        accumulated: Batches, one after the other, that each global batch is cut into on every device.
    """

    rank: int = 0
    ranks: int = 1
    accumulated: int = 1


class BatchRequest(NamedTuple):
    """What one device is to load for one batch.

    Attributes:
        epoch: From 0.
        items: What the order calls the samples, in their order.
        total: Samples of the global batch that they are a share of.
    """

    epoch: int
    items: Sequence[Any]
    total: int


class EpochOrder(Protocol):
    """Says what the global batches of an epoch are."""

    def batches(self, epoch: int) -> Sequence[Sequence[Any]]:
        """Return the samples of each global batch.

        Args:
            epoch: From 0.

        Returns:
            As many batches in every epoch, each with a sample for every share at least.
        """
        ...


class SharedOrder(DistributedSampler[BatchRequest]):
    """The requests of one device. It is a `DistributedSampler` so that Lightning leaves it alone.

    Args:
        order: The global batches.
        share: Which part of them.
    """

    def __init__(self, order: EpochOrder, share: Share) -> None:
        count = len(order.batches(0)) * share.accumulated
        # The parent wants a data set for its own list of numbers, which is not used.
        super().__init__(range(count), share.ranks, share.rank, shuffle=False)  # type: ignore[arg-type]
        self._order, self._share, self._count = order, share, count
        self._place: dict[str, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; another one than before begins at its first batch."""
        if epoch != self.epoch:
            self._place = None
        self.epoch = epoch

    def go_on_at(self, place: dict[str, int]) -> None:
        """Let the epoch of a place begin there.

        Args:
            place: What `place` returned, perhaps of another device or another number of them.

        Raises:
            UserError: If it is one of versions that counted batches.
        """
        if "samples" not in place:
            raise UserError(
                "the checkpoint counts batches and not samples, as earlier versions did",
                hint="begin the run anew, or from its model with init_from",
            )
        self.epoch, self._place = place["epoch"], place

    def place(self, done: int) -> dict[str, int]:
        """Return a place in this epoch, for a checkpoint: the same on every device.

        Args:
            done: Batches of this device that are behind it.

        Returns:
            The epoch, the samples of all devices that are done, and the samples that it has.
        """
        ends = self._ends(self._order.batches(self.epoch))
        samples = int(ends[done - 1]) if done else 0
        return {"epoch": self.epoch, "samples": samples, "of": int(ends[-1])}

    @property
    def start(self) -> int:
        """Batches of this device that the epoch's next iteration leaves out, as they are done.

        Raises:
            UserError: If the place to go on at lies within one.
        """
        if self._place is None or not self._place["samples"]:
            return 0
        samples, of = self._place["samples"], self._place["of"]
        if samples == of:
            return self._count
        batches = self._order.batches(self.epoch)
        ends = self._ends(batches)
        done = int(np.searchsorted(ends, samples)) + 1
        if samples >= ends[-1] or ends[done - 1] != samples:
            size = len(batches[0]) // self._share.accumulated
            raise UserError(
                f"the checkpoint is {samples:,} samples into an epoch of {of:,}, where no batch ends now: "
                f"{self._share.ranks} devices take {size:,} samples at a time, {int(ends[-1]):,} an epoch",
                hint="with n times the devices, give each the n-th part of the samples, or accumulate the "
                "n-th part of the batches",
            )
        return done

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[BatchRequest]:
        (rank, ranks, accumulated), epoch = self._share, self.epoch
        batches = self._order.batches(epoch)
        for number in range(self.start, self._count):
            which, part = divmod(number, accumulated)
            batch, place = batches[which], part * ranks + rank
            first, last = (x * len(batch) // (ranks * accumulated) for x in (place, place + 1))
            yield BatchRequest(epoch, batch[first:last], len(batch))

    def _ends(self, batches: Sequence[Sequence[Any]]) -> npt.NDArray[np.int64]:
        """Return how many samples are done after each batch of a device."""
        sizes = np.array([len(batch) for batch in batches], dtype=np.int64)
        parts = np.arange(1, self._share.accumulated + 1)
        # the last device's share of a part is where all devices' ends
        within = parts * self._share.ranks * sizes[:, None] // (self._share.ranks * self._share.accumulated)
        return ((np.cumsum(sizes) - sizes)[:, None] + within).ravel()


class ResumableLoader(DataLoader[Any]):
    """A loader whose place goes into the checkpoint and comes back from it; made by `loader_in_order`."""

    done = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Go through the rest of the epoch."""
        self.done = self._order.start
        for batch in super().__iter__():
            self.done += 1
            yield batch

    @property
    def _order(self) -> SharedOrder:
        assert isinstance(self.sampler, SharedOrder)
        return self.sampler

    def state_dict(self) -> dict[str, int]:
        """Return the place in the epoch, see `SharedOrder.place`."""
        return self._order.place(self.done)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration go on at that place."""
        self._order.go_on_at(state_dict)


def loader_in_order(
    dataset: Dataset[Any],
    order: SharedOrder,
    *,
    num_workers: int,
    pin_memory: bool = False,
    kind: type[ResumableLoader] = ResumableLoader,
) -> ResumableLoader:
    """Return a loader of a device's batches.

    Args:
        dataset: Makes a whole batch of a `BatchRequest`.
        order: Of the requests.
        num_workers: Processes that load ahead; 0 loads in this one.
        pin_memory: Whether batches are put where a GPU copies them from without waiting.
        kind: Its class; arguments stay those of `DataLoader`, which Lightning may build it anew from.
    """
    return kind(
        dataset,
        sampler=order,
        batch_size=None,
        collate_fn=already_a_batch,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
    )


class ResumedPlace(L.Callback):
    """Lets Lightning count the batches of a resumed epoch as this number of devices has them.

    Its own count in the checkpoint is that of the batches of one device, of which there may be another number
    now.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the count to what the loader leaves out."""
        loader, loop = trainer.train_dataloader, trainer.fit_loop
        if not (loop.restarted_mid_epoch and isinstance(loader, ResumableLoader)):
            return
        current = loop.epoch_loop.batch_progress.current
        moved = loader._order.start - current.ready
        for name in ("ready", "started", "processed", "completed"):
            setattr(current, name, getattr(current, name) + moved)
