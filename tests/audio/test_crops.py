"""Stretches of the recordings of a batch."""

from __future__ import annotations

import torch

from audio.crops import even_crops, random_crops


def test_crops_cover_a_recording_evenly_and_centre_a_short_one():
    ramp = torch.arange(1.0, 101)[None, :, None]
    x, lengths = ramp.repeat(2, 1, 1), torch.tensor([100, 10])
    crops = even_crops(x, lengths, 20, 3)
    assert crops.shape == (6, 20, 1)
    assert crops[:3, 0, 0].tolist() == [1, 41, 81]
    for crop in crops[3:]:
        assert crop[5:15, 0].tolist() == list(range(1, 11))
        assert crop.count_nonzero() == 10
    assert even_crops(x, lengths, 20, 1)[0, 0, 0] == 41
    assert even_crops(x, lengths, 150, 2).shape == (4, 150, 1)


def test_places_late_in_long_recordings_are_exact():
    torch.manual_seed(0)
    length = 2**22
    x = (torch.arange(length) % 4096).float()[None, :, None]
    y, _ = random_crops(x, torch.tensor([length]), None, torch.full((1, 1), 1.1), torch.zeros(1, 1))
    steps = y[0, 1:, 0] - y[0, :-1, 0]
    assert ((steps - 1.1).abs() < 2e-3).float().mean() > 0.999  # all but those across the end of a tooth
