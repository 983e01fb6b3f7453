"""Two recordings of a batch as one."""

from __future__ import annotations

import math

import pytest
import torch

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
        (lambda: MixingConfig("both"), "mixing.kind: expected one of none, mixup, between_class"),
        (lambda: MixingConfig("mixup", alpha=0), "mixing.alpha: expected a number > 0"),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
