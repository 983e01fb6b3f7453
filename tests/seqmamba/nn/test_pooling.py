from __future__ import annotations

import pytest
import torch

from seqmamba.errors import UserError
from seqmamba.nn.pooling import POOLINGS, pool

MODES = sorted(POOLINGS)


@pytest.mark.parametrize("mode", MODES)
def test_padding_never_matters(mode):
    torch.manual_seed(0)
    x = torch.randn(3, 6, 4) - 5  # all below zero: a maximum over zeros in the padding would show
    lengths = torch.tensor([1, 4, 6])
    for row, length in enumerate(lengths):
        x[row, length:] = torch.nan
    pooled = pool(x, lengths, mode)
    alone = torch.cat([pool(x[i : i + 1, :n], None, mode) for i, n in enumerate(lengths)])
    torch.testing.assert_close(pooled, alone)


@pytest.mark.parametrize("mode", MODES)
def test_no_gradient_reaches_the_padding(mode):
    x = torch.randn(1, 5, 2, requires_grad=True)
    pool(x, torch.tensor([3]), mode).square().sum().backward()
    assert x.grad[:, :3].abs().sum() > 0
    assert x.grad[:, 3:].abs().sum() == 0


@pytest.mark.parametrize("mode", MODES)
def test_float32_result(mode):
    for lengths in (None, torch.tensor([2, 3])):
        assert pool(torch.randn(2, 3, 4, dtype=torch.bfloat16), lengths, mode).dtype == torch.float32


def test_mean_of_many_bfloat16_ones_is_exact():
    x = torch.ones(1, 100_000, 1, dtype=torch.bfloat16)
    assert pool(x, torch.tensor([99_999]), "mean").item() == 1.0


def test_values():
    x = torch.tensor([[[1.0], [5.0], [3.0], [9.0]]])
    lengths = torch.tensor([3])
    assert [pool(x, lengths, mode).item() for mode in ("mean", "max", "last")] == [3.0, 5.0, 3.0]


def test_unknown_mode():
    with pytest.raises(UserError, match="pooling: expected one of mean, max, last, got 'sum'"):
        pool(torch.ones(1, 1, 1), None, "sum")
