from __future__ import annotations

import numpy as np
import pytest

from genomics.defaults import batch_size, choose


def chosen(n: int, length: int, *, gpu: bool = False) -> dict[str, object]:
    return {choice.key.rpartition(".")[2]: choice.value for choice in choose(np.full(n, length), gpu=gpu)}


def test_a_small_set_gets_enough_steps() -> None:
    values = chosen(200, 200)
    steps = values["max_epochs"] * 200 // values["batch_size"]
    assert values["batch_size"] <= 16
    assert steps >= 500


@pytest.mark.parametrize("n", [10, 1_000, 100_000])
def test_a_cpu_run_ends_in_minutes(n: int) -> None:
    values = chosen(n, 200)
    assert values["max_epochs"] * min(n, 50_000) * 200 <= 30_000_000
    assert "max_length" not in values


def test_long_sequences_are_cropped_and_batched_small() -> None:
    values = chosen(300, 1_000_000)
    assert values["max_length"] == 8_192
    assert values["batch_size"] == 4
    assert chosen(300, 1_000_000, gpu=True)["max_length"] == 131_072


def test_a_gpu_and_many_sequences_get_a_larger_model() -> None:
    assert chosen(200_000, 500, gpu=True)["d_model"] > chosen(200_000, 500)["d_model"]


@pytest.mark.parametrize("n", [1, 5, 50, 5_000])
@pytest.mark.parametrize("length", [1, 200, 100_000])
def test_batch_size_is_a_power_of_two_in_range(n: int, length: int) -> None:
    size = batch_size(np.full(n, length), 16_384)
    assert 4 <= size <= 256
    assert size & (size - 1) == 0
