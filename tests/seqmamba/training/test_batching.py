from __future__ import annotations

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from seqmamba.training.batching import LengthBucketBatchSampler

lengths_strategy = st.lists(st.integers(1, 3000), max_size=120)


@given(lengths_strategy, st.integers(1, 20), st.booleans(), st.integers(0, 5))
def test_every_index_comes_exactly_once(
    lengths: list[int], batch_size: int, shuffle: bool, epoch: int
) -> None:
    sampler = LengthBucketBatchSampler(lengths, batch_size, shuffle=shuffle)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler) == -(-len(lengths) // batch_size)
    assert all(0 < len(batch) <= batch_size for batch in batches)


@given(lengths_strategy, st.integers(1, 5000), st.integers(0, 5))
def test_a_budget_of_tokens_holds_with_padding(lengths: list[int], max_tokens: int, epoch: int) -> None:
    sampler = LengthBucketBatchSampler(lengths, max_tokens=max_tokens, shuffle=True)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler), "as many batches in every epoch"
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(50, 500, 300)

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = LengthBucketBatchSampler(lengths, 16, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(1, 4)
    assert order(1, 3) != order(2, 3)
    sampler = LengthBucketBatchSampler(lengths, 16, shuffle=True, seed=1)
    for _ in range(3):
        list(sampler)  # iterating must not advance anything
    sampler.set_epoch(3)
    assert list(sampler) == order(1, 3)


def test_little_padding_yet_sequences_mix_within_a_bucket() -> None:
    lengths = np.random.default_rng(0).integers(100, 2000, 5000)
    sampler = LengthBucketBatchSampler(lengths, 32, shuffle=True)
    padded = sum(len(batch) * lengths[batch].max() for batch in sampler)
    assert lengths.sum() / padded > 0.85
    partners = set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        partners.add(frozenset(next(batch for batch in sampler if 0 in batch)))
    assert len(partners) == 5


def test_equal_lengths_are_shuffled_freely() -> None:
    sampler = LengthBucketBatchSampler([200] * 1000, 10, shuffle=True)
    spread = [max(batch) - min(batch) for batch in sampler]
    assert np.mean(spread) > 700


def test_without_shuffling_the_order_is_that_of_the_data() -> None:
    assert list(LengthBucketBatchSampler([5, 5, 5, 5, 5], 2)) == [[0, 1], [2, 3], [4]]


def test_drop_last_leaves_out_the_small_batch_only() -> None:
    assert list(LengthBucketBatchSampler([5] * 5, 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert len(LengthBucketBatchSampler([5] * 4, 2, drop_last=True)) == 2
    assert len(LengthBucketBatchSampler([], 2, drop_last=True)) == 0


@pytest.mark.parametrize(
    "arguments", [{}, {"batch_size": 0}, {"batch_size": 2, "max_tokens": 10}, {"max_tokens": -1}]
)
def test_wrong_limits_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one of batch_size and max_tokens"):
        LengthBucketBatchSampler([1, 2], **arguments)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*is deprecated")
def test_lightning_draws_a_new_order_every_epoch() -> None:
    seen: list[list[int]] = []

    class Recorder(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            seen.append(batch.tolist())
            return (self.weight * batch).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    sampler = LengthBucketBatchSampler([3] * 8, 2, shuffle=True, seed=5)
    loader = DataLoader(torch.arange(8), batch_sampler=sampler)  # type: ignore[arg-type]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=3, enable_model_summary=False, **quiet)
    trainer.fit(Recorder(), loader)
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert seen == expected
