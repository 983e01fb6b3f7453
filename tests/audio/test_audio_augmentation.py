"""Changes to training batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from audio.augmentation import AugmentationConfig, augment, coloured, draw_noise
from seqmamba.errors import UserError

RATE = 8000
ALL = AugmentationConfig(
    seconds=0.5,
    shift_seconds=0.1,
    speed=1.2,
    gain_db=6,
    colour_db=6,
    band_limit=0.5,
    noise_db=(5, 20),
    gaps=2,
    polarity=True,
)


def tone(hz, count=RATE, amplitude=0.5):
    return amplitude * torch.sin(math.tau * hz * torch.arange(count) / RATE)[None, :, None]


def batch(*rows):
    """Rows of different length; what is behind them must not be looked at."""
    lengths = torch.tensor([row.shape[1] for row in rows])
    out = torch.full((len(rows), int(lengths.max()), rows[0].shape[2]), math.nan)
    for i, row in enumerate(rows):
        out[i, : row.shape[1]] = row[0]
    return out, lengths


def test_the_defaults_change_nothing_but_the_padding():
    x, lengths = batch(tone(440), tone(220, 100))
    y, same = augment(x, lengths, RATE, AugmentationConfig())
    assert torch.equal(same, lengths)
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1, :100], x[1, :100])
    assert not y[1, 100:].any()


def test_cuts_come_from_the_recording_and_its_margins():
    torch.manual_seed(0)
    ramp = torch.arange(1.0, 1001)[None, :, None]
    x, lengths = batch(*[ramp] * 200, ramp[:, :300])
    config = AugmentationConfig(seconds=0.0625, shift_seconds=0.03125)
    y, new = augment(x, lengths, RATE, config)
    assert y.shape == (201, 500, 1)
    assert (new == 500).all()
    inside = (y[:, 1:] != 0) & (y[:, :-1] != 0)
    steps = (y[:, 1:] - y[:, :-1])[inside]
    assert ((steps - 1).abs() > 1e-3).sum() <= 2 * len(y)  # where a recording begins and ends between samples
    first = torch.tensor([row[row > 0][0].item() if row.any() else 0 for row in y[:200, :, 0]])
    assert first.min() < 30
    assert first.max() > 720
    assert (y[:200, 0] == 0).any()  # some begin in the silence in front
    assert (y[200] > 0).sum() <= 301


def test_speed_moves_the_pitch_and_without_a_cut_the_length():
    torch.manual_seed(0)
    x, lengths = batch(*[tone(500)] * 8)
    y, new = augment(x, lengths, RATE, AugmentationConfig(speed=1.25))
    assert new.min() >= RATE / 1.25 - 1
    assert new.max() <= RATE * 1.25
    assert new.unique().numel() == 8
    for row, length in zip(y[..., 0], new, strict=True):
        crossings = (row[1:length].sign() != row[: length - 1].sign()).sum()
        assert crossings == pytest.approx(1000, abs=3)


def test_gain_polarity_and_gaps():
    torch.manual_seed(0)
    x, lengths = batch(*[torch.ones(1, 400, 1)] * 64)
    y, _ = augment(x, lengths, RATE, AugmentationConfig(gain_db=6, polarity=True))
    assert y.abs().amin() >= 10 ** (-6 / 20) - 1e-6
    assert y.abs().amax() <= 10 ** (6 / 20) + 1e-6
    assert 10 < (y[:, 0] < 0).sum() < 54
    z, _ = augment(x, lengths, RATE, AugmentationConfig(gaps=2, gap_seconds=0.01))
    silent = (z == 0).sum(dim=(1, 2))
    assert 0 < silent.float().mean() <= 160
    assert silent.max() <= 160


def test_colour_changes_each_tone_by_a_bounded_gain_and_does_not_move_it():
    torch.manual_seed(0)
    for hz in (100, 1000, 3000):
        y = coloured(tone(hz).expand(16, -1, -1), RATE, torch.full((16, 1), 6.0))[:, 1000:-1000, 0]
        x = tone(hz)[0, 1000:-1000, 0]
        gains = (y @ x) / (x @ x)
        assert torch.allclose(y, gains[:, None] * x, atol=0.02)
        assert gains.abs().log10().abs().max() * 20 < 6.1
        assert gains.std() > 0.05


def test_band_limits_take_whole_tones_from_some_recordings():
    torch.manual_seed(0)
    x = sum(tone(hz) for hz in (100, 3500)).expand(64, -1, -1)
    left = batch_of(x, AugmentationConfig(band_limit=0.5))
    low, high = ((left @ tone(hz)[0, :, 0]) / tone(hz).square().sum() for hz in (100, 3500))
    assert torch.allclose(low, torch.ones(64), atol=0.02)
    assert 15 < (high < 0.05).sum() < 45
    assert ((high < 0.05) | (high > 0.9)).sum() > 55


def batch_of(x, config):
    return augment(x, torch.full((len(x),), x.shape[1]), RATE, config)[0][..., 0]


def test_what_is_drawn_follows_from_the_state_of_the_generator():
    x, lengths = batch(tone(440), tone(220, 5000), tone(330))
    changed = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        changed.append(augment(x.nan_to_num(), lengths, RATE, ALL)[0])
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_a_share_of_the_recordings_stays_as_it_is():
    torch.manual_seed(0)
    config = replace(ALL, share=0.25, seconds=None, shift_seconds=0.01, noise_db=(10, 10))
    x = tone(440, 400).expand(200, -1, -1)
    y, lengths = augment(x, torch.full((200,), 400), RATE, config)
    same = (lengths == 400) & ((y[:, :400] - x).abs().amax(dim=(1, 2)) < 1e-5)
    assert 130 < same.sum() < 170


def test_shifts_leave_silence_and_the_length():
    torch.manual_seed(0)
    x, lengths = batch(*[torch.arange(1.0, 101)[None, :, None]] * 300)
    y, new = augment(x, lengths, RATE, AugmentationConfig(shift_seconds=10 / RATE))
    assert torch.equal(new, lengths)
    first, last = y[:, 0, 0], y[:, -1, 0]
    assert 8.5 < first.max() <= 11  # began ten samples earlier
    late = (y[..., 0] == 0).sum(dim=1)[last > 80]  # samples of silence in front
    assert late.max() in (9, 10)
    assert 100 < (first > 1).sum() < 200


@pytest.mark.parametrize("kind", ["white", "pink"])
@pytest.mark.parametrize("ratio", [-5.0, 0.0, 20.0])
def test_the_ratio_of_noise(kind, ratio):
    torch.manual_seed(0)
    stereo = torch.cat((tone(440), tone(220)), dim=2)
    x, lengths = batch(stereo, 0.01 * stereo[:, : RATE // 2])
    y, _ = augment(x, lengths, RATE, AugmentationConfig(noise_db=(ratio, ratio), noise=kind))
    for row, length in enumerate(lengths):
        clean = x[row, :length]
        added = y[row, :length] - clean
        measured = 10 * torch.log10(clean.square().mean() / added.square().mean())
        assert measured.item() == pytest.approx(ratio, abs=0.01)
        assert torch.allclose(added[:, 0], added[:, 1], atol=1e-6)
        assert not y[row, length:].any()


def test_the_colour_of_noise():
    torch.manual_seed(0)
    pink = draw_noise(torch.empty(2, 2**16, 1), "pink")
    power = torch.fft.rfft(pink[0, :, 0]).abs().square()
    octaves = torch.stack([power[2**k : 2 ** (k + 1)].sum() for k in range(6, 15)])
    assert octaves.max() / octaves.min() < 1.6
    assert draw_noise(torch.empty(1, 1, 1), "pink").shape == (1, 1, 1)


def test_silence_stays_silence():
    assert not augment(torch.zeros(4, 100, 1), torch.full((4,), 100), RATE, ALL)[0].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 2}, "augmentation.share: expected a number from 0 to 1, got 2"),
        ({"seconds": 0}, "augmentation.seconds: expected null or a number > 0"),
        ({"shift_seconds": -1}, "augmentation.shift_seconds: expected a number >= 0, got -1"),
        ({"speed": 0.9}, "augmentation.speed: expected a number >= 1, got 0.9"),
        ({"noise": "brown"}, "augmentation.noise: expected one of white, pink, got 'brown'"),
        ({"noise_db": [20, 5]}, "augmentation.noise_db: expected a lowest and a highest ratio in dB"),
        ({"noise_db": [20]}, "augmentation.noise_db: expected a lowest and a highest ratio in dB"),
        ({"gaps": -1}, "augmentation.gaps: expected a whole number >= 0"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        AugmentationConfig(**options)
