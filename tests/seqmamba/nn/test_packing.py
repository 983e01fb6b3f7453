from __future__ import annotations

import torch

from seqmamba.nn.packing import length_mask, pack, reset_from_lengths, unpack


def test_length_mask():
    expected = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    assert torch.equal(length_mask(torch.tensor([2, 3, 0]), 3), expected)


def test_reset_marks_only_the_first_padded_position():
    expected = torch.tensor([[False, True, False], [False, False, False], [True, False, False]])
    assert torch.equal(reset_from_lengths(torch.tensor([1, 3, 0]), 3), expected)


def test_pack_and_unpack():
    sequences = [torch.randn(length, 2) for length in (3, 1, 4)]
    packed, reset = pack(sequences)
    assert reset.nonzero().tolist() == [[0, 0], [0, 3], [0, 4]]
    for got, expected in zip(unpack(packed, [3, 1, 4]), sequences, strict=True):
        assert torch.equal(got, expected)
