from __future__ import annotations

import pytest
import torch

from genomics.readout import POOLINGS, Readout


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_never_matters(pooling: str) -> None:
    torch.manual_seed(0)
    readout = Readout(6, pooling, positions=12)
    hidden, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 1])
    vectors = readout(hidden, lengths)
    assert vectors.shape == (3, readout.features)
    assert vectors.dtype == torch.float32
    for row, length, vector in zip(hidden, lengths.tolist(), vectors, strict=True):
        torch.testing.assert_close(readout(row[None, :length]), vector[None])
    hidden[1, 4:] = torch.nan
    torch.testing.assert_close(readout(hidden, lengths), vectors)


def test_flattened_states_keep_their_places() -> None:
    hidden = torch.arange(12.0).view(1, 3, 4)
    flat = Readout(4, "flatten", positions=5)(hidden)
    assert flat.tolist() == [[*map(float, range(12)), *[0.0] * 8]]


def test_attention_weighs_positions_by_what_they_hold() -> None:
    readout = Readout(2, "attention")
    with torch.no_grad():
        readout.attention.hidden.weight.copy_(torch.tensor([[0.0, 100.0]]))
        readout.attention.hidden.bias.zero_()
        readout.attention.score.weight.fill_(50.0)
    hidden = torch.tensor([[[1.0, -1.0], [2.0, 1.0], [4.0, -1.0]]])
    torch.testing.assert_close(readout(hidden), hidden[:, 1])
