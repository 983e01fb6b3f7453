from __future__ import annotations

import pytest
import torch

from seqmamba.nn.alignment import align, lone_layout


def mask(text):
    return torch.tensor([[char == "1" for char in row] for row in text.split()])


def test_sequences_move_to_multiples_of_the_period():
    alignment = align(mask("0010100 0000000"), 4)  # lengths 2, 2, 3 and 7
    layout = alignment.layout
    assert torch.equal(layout.starts, mask("100010001000 100000000000"))
    assert torch.equal(layout.valid, mask("110011001110 111111100000"))
    assert torch.equal(layout.reset, mask("101010101001 100000010000"))
    frames = layout.coarsen(2)
    assert torch.equal(frames.starts, mask("101010 100000"))
    assert torch.equal(frames.valid, mask("101011 111100"))
    assert torch.equal(frames.reset, mask("111110 100010"))
    x = torch.arange(1.0, 15.0).reshape(2, 7, 1)
    assert alignment.spread(x)[..., 0].tolist() == [
        [1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 7, 0],
        [8, 9, 10, 11, 12, 13, 14, 0, 0, 0, 0, 0],
    ]
    assert torch.equal(alignment.gather(alignment.spread(x)), x)


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_one_sequence_stays_and_is_filled_up(length):
    alignment = align(torch.zeros(1, length, dtype=torch.bool), 4)
    assert alignment.layout.valid.shape == (1, -(-length // 4) * 4)
    assert alignment.layout.valid.sum() == length
    assert alignment.target.tolist() == [list(range(length))]
    alone = lone_layout(torch.zeros(1, length, 2), alignment.layout.valid.shape[1])
    assert torch.equal(alone.starts, alignment.layout.starts)
    assert torch.equal(alone.valid, alignment.layout.valid)


def test_gradients_pass_both_ways():
    alignment = align(mask("00101 10000"), 3)
    x = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(alignment.spread, x)
    aligned = torch.randn(2, *alignment.layout.valid.shape[1:], 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(alignment.gather, aligned)
