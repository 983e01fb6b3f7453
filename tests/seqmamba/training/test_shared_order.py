"""Every device, number of devices and worker sees its share of one order of samples."""

from __future__ import annotations

from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from seqmamba.errors import UserError
from seqmamba.training.shared_order import (
    BatchRequest,
    ResumableLoader,
    Share,
    SharedOrder,
    loader_in_order,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork.*:DeprecationWarning",
    "ignore:This DataLoader will create 3 worker processes",
)
SIZE, BATCHES = 12, 5
SHARES = [(1, 1), (2, 1), (4, 1), (1, 3), (2, 2), (3, 4)]


class Shuffled:
    """Five batches of twelve numbers in an order of the epoch's own; the last batch may be shorter."""

    def __init__(self, last: int = SIZE) -> None:
        self.last = last

    def batches(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng(epoch).permutation((BATCHES - 1) * SIZE + self.last).tolist()
        return [order[first : first + SIZE] for first in range(0, len(order), SIZE)]


class Names(Dataset[list[int]]):
    def __getitem__(self, request: BatchRequest) -> list[int]:
        return [request.epoch * 1000 + item for item in request.items]


def loaders(ranks: int, accumulated: int, order: Any, workers: int = 0) -> list[ResumableLoader]:
    return [
        loader_in_order(Names(), SharedOrder(order, Share(rank, ranks, accumulated)), num_workers=workers)
        for rank in range(ranks)
    ]


def global_batches(devices: list[ResumableLoader], accumulated: int) -> list[list[int]]:
    """What all devices together see in each global batch."""
    steps = [list(chain(*step)) for step in zip(*devices, strict=True)]
    return [list(chain(*steps[first : first + accumulated])) for first in range(0, len(steps), accumulated)]


@pytest.mark.parametrize(("ranks", "accumulated"), SHARES)
@pytest.mark.parametrize("last", [SIZE, 12])
def test_shares_make_the_same_global_batches(ranks: int, accumulated: int, last: int) -> None:
    order = Shuffled(last)
    devices = loaders(ranks, accumulated, order)
    for epoch in (0, 3):
        for device in devices:
            device.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        expected = [[epoch * 1000 + item for item in batch] for batch in order.batches(epoch)]
        assert global_batches(devices, accumulated) == expected
        assert all(len(device) == len(expected) * accumulated for device in devices)


@pytest.mark.parametrize("before", SHARES)
@pytest.mark.parametrize("after", SHARES)
def test_an_epoch_goes_on_with_other_devices(before: tuple[int, int], after: tuple[int, int]) -> None:
    order = Shuffled()
    old = loaders(*before, order)
    for device in old:
        device.sampler.set_epoch(2)  # type: ignore[attr-defined]
    done = 3 * before[1]
    seen = [list(chain(*step)) for step in zip(*(islice(device, done) for device in old), strict=True)]
    places = [device.state_dict() for device in old]
    assert all(place == {"epoch": 2, "samples": 3 * SIZE, "of": BATCHES * SIZE} for place in places)
    new = loaders(*after, order)
    for device in new:
        device.load_state_dict(places[0])
        device.sampler.set_epoch(2)  # type: ignore[attr-defined]
    rest = global_batches(new, after[1])
    assert [2000 + item for batch in order.batches(2) for item in batch] == [*chain(*seen), *chain(*rest)]
    assert rest == [[2000 + item for item in batch] for batch in order.batches(2)[3:]]
    assert new[-1].state_dict()["samples"] == BATCHES * SIZE
    for device in new:
        device.sampler.set_epoch(3)  # type: ignore[attr-defined]
    assert len(global_batches(new, after[1])) == BATCHES


def test_workers_change_nothing_before_and_after_a_stop() -> None:
    whole = list(loaders(2, 1, Shuffled())[1])
    for before, after in ((0, 3), (3, 1), (1, 0)):
        (loader,) = loaders(2, 1, Shuffled(), before)[1:]
        seen = list(islice(loader, 2))
        (resumed,) = loaders(2, 1, Shuffled(), after)[1:]
        resumed.load_state_dict(loader.state_dict())
        assert seen + list(resumed) == whole


def test_a_finished_epoch_is_over_whatever_its_size_is_now() -> None:
    (loader,) = loaders(1, 1, Shuffled(last=7))
    loader.load_state_dict({"epoch": 0, "samples": BATCHES * SIZE, "of": BATCHES * SIZE})
    assert list(loader) == []


def test_a_place_of_an_earlier_version_is_refused() -> None:
    (loader,) = loaders(1, 1, Shuffled())
    with pytest.raises(UserError, match="counts batches and not samples"):
        loader.load_state_dict({"epoch": 0, "delivered": 3})


def test_a_place_within_a_batch_is_refused() -> None:
    (loader,) = loaders(1, 1, Shuffled())
    for samples in (18, 66):
        loader.load_state_dict({"epoch": 0, "samples": samples, "of": 66 + SIZE})
        with pytest.raises(UserError, match=rf"is {samples} samples into an epoch of 78.*take 12 samples"):
            next(iter(loader))
