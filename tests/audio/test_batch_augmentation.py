"""Changes to training batches, and mixes of them."""

from __future__ import annotations

import math

import pytest
import torch

from audio.batch_augmentation import BatchAugmentationConfig, augment_batch, coloured, crops_of
from audio.mixing import (
    MixingConfig,
    a_weighting,
    between_class_weight,
    divergence,
    loudness,
    mix_batch,
    one_hot_targets,
)
from seqmamba.errors import UserError

RATE = 8000


def tone(hz, count=RATE, amplitude=0.5):
    return amplitude * torch.sin(math.tau * hz * torch.arange(count) / RATE)[None, :, None]


def batch(*rows):
    lengths = torch.tensor([row.shape[1] for row in rows])
    out = torch.full((len(rows), int(lengths.max()), 1), math.nan)
    for i, row in enumerate(rows):
        out[i, : row.shape[1]] = row[0]
    return out, lengths


def test_the_defaults_change_nothing_but_the_padding():
    x, lengths = batch(tone(440), tone(220, 100))
    y, same = augment_batch(x, lengths, RATE, BatchAugmentationConfig())
    assert torch.equal(same, lengths)
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1, :100], x[1, :100])
    assert not y[1, 100:].any()


def test_cuts_come_from_the_recording_and_its_margins():
    torch.manual_seed(0)
    ramp = torch.arange(1.0, 1001)[None, :, None]
    x, lengths = batch(*[ramp] * 200, ramp[:, :300])
    config = BatchAugmentationConfig(seconds=0.0625, margin=0.5)
    y, new = augment_batch(x, lengths, RATE, config)
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
    y, new = augment_batch(x, lengths, RATE, BatchAugmentationConfig(speed=1.25))
    assert new.min() >= RATE / 1.25 - 1
    assert new.max() <= RATE * 1.25
    assert new.unique().numel() == 8
    for row, length in zip(y[..., 0], new, strict=True):
        crossings = (row[1:length].sign() != row[: length - 1].sign()).sum()
        assert crossings == pytest.approx(1000, abs=3)


def test_gain_polarity_and_gaps():
    torch.manual_seed(0)
    x, lengths = batch(*[torch.ones(1, 400, 1)] * 64)
    y, _ = augment_batch(x, lengths, RATE, BatchAugmentationConfig(gain_db=6, polarity=True))
    assert y.abs().amin() >= 10 ** (-6 / 20) - 1e-6
    assert y.abs().amax() <= 10 ** (6 / 20) + 1e-6
    assert 10 < (y[:, 0] < 0).sum() < 54
    z, _ = augment_batch(x, lengths, RATE, BatchAugmentationConfig(gaps=2, gap_seconds=0.01))
    silent = (z == 0).sum(dim=(1, 2))
    assert 0 < silent.float().mean() <= 160
    assert silent.max() <= 160


def test_colour_changes_each_tone_by_a_bounded_gain_and_does_not_move_it():
    torch.manual_seed(0)
    for hz in (100, 1000, 3000):
        y = coloured(tone(hz).expand(16, -1, -1), RATE, 6.0)[:, 1000:-1000, 0]
        x = tone(hz)[0, 1000:-1000, 0]
        gains = (y @ x) / (x @ x)
        assert torch.allclose(y, gains[:, None] * x, atol=0.02)
        assert gains.abs().log10().abs().max() * 20 < 6.1
        assert gains.std() > 0.05


def test_band_limits_take_whole_tones_from_some_recordings():
    torch.manual_seed(0)
    x = sum(tone(hz) for hz in (100, 3500)).expand(64, -1, -1)
    left = batch_of(x, BatchAugmentationConfig(band_limit=0.5))
    low, high = ((left @ tone(hz)[0, :, 0]) / tone(hz).square().sum() for hz in (100, 3500))
    assert torch.allclose(low, torch.ones(64), atol=0.02)
    assert 15 < (high < 0.05).sum() < 45
    assert ((high < 0.05) | (high > 0.9)).sum() > 55


def batch_of(x, config):
    return augment_batch(x, torch.full((len(x),), x.shape[1]), RATE, config)[0][..., 0]


def test_crops_cover_a_recording_evenly_and_centre_a_short_one():
    ramp = torch.arange(1.0, 101)[None, :, None]
    x, lengths = batch(ramp, ramp[:, :10])
    crops = crops_of(x, lengths, 20, 3)
    assert crops.shape == (6, 20, 1)
    assert crops[:3, 0, 0].tolist() == [1, 41, 81]
    for crop in crops[3:]:
        assert crop[5:15, 0].tolist() == list(range(1, 11))
        assert crop.count_nonzero() == 10
    assert crops_of(x, lengths, 20, 1)[0, 0, 0] == 41
    assert crops_of(x, lengths, 150, 2).shape == (4, 150, 1)


def test_a_quiet_sound_is_weighed_up_to_its_share():
    x = torch.cat((tone(1000), tone(2000, amplitude=0.05)))
    level = loudness(x, RATE)
    assert level[0] == pytest.approx(20 * math.log10(0.5) - 3.0, abs=0.2)
    assert level[0] - level[1] == pytest.approx(20 - 1.2, abs=0.2)  # 2 kHz is heard 1.2 dB louder
    weight = between_class_weight(torch.tensor([0.5]), level[:1], level[1:])
    heard = [20 * math.log10(w) + g for w, g in ((weight.item(), level[0]), (1 - weight.item(), level[1]))]
    assert heard[0] == pytest.approx(float(heard[1]), abs=1e-3)


def test_the_a_curve_has_its_published_values():
    found = 10 * torch.log10(a_weighting(torch.tensor([31.5, 100.0, 1000.0, 2000.0, 8000.0])))
    assert torch.allclose(found, torch.tensor([-39.4, -19.1, 0.0, 1.2, -1.1]), atol=0.15)


@pytest.mark.parametrize("kind", ["mixup", "between_class"])
def test_mixes_hold_two_sounds_and_both_their_classes(kind):
    torch.manual_seed(0)
    x = torch.cat([tone(hz) for hz in (500, 1000, 1500, 2000)])
    targets = one_hot_targets(torch.arange(4), 4)
    y, _, mixed = mix_batch(x, torch.full((4,), RATE), targets, RATE, MixingConfig(kind))
    assert torch.allclose(mixed.sum(1), torch.ones(4))
    assert (mixed > 0).sum(1).tolist() == [2, 2, 2, 2]
    amplitude = (y[..., 0] @ x[..., 0].T) / (x[0, :, 0] @ x[0, :, 0])  # (mix, tone)
    assert torch.equal(amplitude > 1e-3, mixed > 1e-3)
    if kind == "between_class":
        assert torch.allclose(amplitude.square().sum(1), torch.ones(4), atol=1e-2)
        assert torch.equal(amplitude.argsort(1)[:, -1], mixed.argsort(1)[:, -1])


def test_a_share_of_none_and_a_batch_of_one_stay():
    x, targets = torch.cat([tone(500), tone(700)]), one_hot_targets(torch.arange(2), 2)
    lengths = torch.tensor([RATE, 100])
    for got in (
        mix_batch(x, lengths, targets, RATE, MixingConfig("mixup", share=0.0)),
        mix_batch(x[:1], lengths[:1], targets[:1], RATE, MixingConfig("mixup")),
    ):
        assert torch.equal(got[0], x[: len(got[0])])
        assert torch.equal(got[2], targets[: len(got[2])])
    longer = mix_batch(x, lengths, targets, RATE, MixingConfig("mixup"))[1]
    assert longer.tolist() == [RATE, RATE]
    silence = torch.zeros_like(x)
    assert mix_batch(silence, lengths, targets, RATE, MixingConfig("between_class"))[0].isfinite().all()


def test_the_divergence_is_zero_for_a_perfect_answer_and_has_the_gradient_of_cross_entropy():
    targets = torch.tensor([[0.7, 0.3, 0.0], [1.0, 0.0, 0.0]])
    assert divergence(targets.clamp(min=1e-30).log(), targets) == pytest.approx(0, abs=1e-6)
    logits = torch.randn(2, 3, requires_grad=True)
    (ours,) = torch.autograd.grad(divergence(logits, targets), logits)
    (theirs,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, targets), logits)
    assert torch.allclose(ours, theirs)
    smoothed = one_hot_targets(torch.tensor([2]), 4, smoothing=0.2)
    assert torch.allclose(smoothed, torch.tensor([[0.05, 0.05, 0.85, 0.05]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchAugmentationConfig(speed=0.9), "augmentation.speed: expected a number >= 1, got 0.9"),
        (lambda: BatchAugmentationConfig(seconds=0), "augmentation.seconds: expected null or a number > 0"),
        (lambda: BatchAugmentationConfig(gaps=-1), "augmentation.gaps: expected a whole number >= 0"),
        (lambda: MixingConfig("both"), "mixing.kind: expected one of none, mixup, between_class"),
        (lambda: MixingConfig("mixup", alpha=0), "mixing.alpha: expected a number > 0"),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
