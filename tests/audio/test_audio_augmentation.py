from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from audio.augmentation import (
    AugmentationConfig,
    add_noise,
    augment,
    change_speed,
    draw_noise,
    generator_of,
    shift,
)
from seqmamba.errors import UserError

RATE = 8_000
ALL = AugmentationConfig(speed=1.2, shift_seconds=0.1, noise_db=(5, 20))


def _tone(hertz: float = 440, length: int = 8_000, channels: int = 1) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz / RATE * torch.arange(length))[:, None].repeat(1, channels)


def test_what_is_drawn_depends_on_seed_epoch_and_recording_alone() -> None:
    waveform = _tone()
    first = augment(waveform, RATE, ALL, generator_of(1, 2, 3))
    assert torch.equal(first, augment(waveform, RATE, ALL, generator_of(1, 2, 3)))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 4)):
        changed = augment(waveform, RATE, ALL, generator_of(*other))
        assert changed.shape != first.shape or not torch.equal(changed, first)


def test_nothing_changes_by_default() -> None:
    waveform = _tone()
    assert augment(waveform, RATE, AugmentationConfig(), generator_of(0, 0, 0)) is waveform
    assert AugmentationConfig(share=0, speed=1.5).changes_nothing


def test_a_share_of_the_recordings() -> None:
    config = AugmentationConfig(share=0.25, noise_db=(10, 10))
    waveform = _tone(length=50)
    changed = [augment(waveform, RATE, config, generator_of(0, 0, i)) is not waveform for i in range(400)]
    assert 70 < sum(changed) < 130


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_speed_changes_pitch_and_length(factor: float) -> None:
    changed = change_speed(_tone(440), factor)
    assert len(changed) == math.ceil(8_000 / factor)
    expected = _tone(440 * factor, len(changed))
    torch.testing.assert_close(changed[200:-200], expected[200:-200], atol=2e-3, rtol=0)


def test_a_faster_recording_does_not_alias() -> None:
    assert change_speed(_tone(3_800), 1.25)[100:-100].abs().max() < 0.03  # of 0.5, in the band of transition


@pytest.mark.parametrize("samples", [0, 3, -3, 10, -10, 99, -99])
def test_shift(samples: int) -> None:
    waveform = torch.arange(1.0, 11)[:, None]
    moved = shift(waveform, samples)[:, 0].tolist()
    expected = [float(i + 1 - samples) if 0 <= i - samples < 10 else 0.0 for i in range(10)]
    assert moved == expected


@pytest.mark.parametrize("kind", ["white", "pink"])
@pytest.mark.parametrize("ratio", [-5.0, 0.0, 20.0])
def test_the_ratio_of_noise(kind: str, ratio: float) -> None:
    waveform = _tone(channels=2)
    noise = draw_noise(8_000, kind, np.random.default_rng(0))  # type: ignore[arg-type]
    added = add_noise(waveform, noise, ratio) - waveform
    measured = 10 * torch.log10(waveform.square().mean() / added.square().mean())
    assert measured.item() == pytest.approx(ratio, abs=0.01)


def test_the_colour_of_noise() -> None:
    pink = draw_noise(2**16, "pink", np.random.default_rng(0))
    power = torch.fft.rfft(pink[:, 0]).abs().square()
    octaves = torch.stack([power[2**k : 2 ** (k + 1)].sum() for k in range(6, 15)])
    assert octaves.max() / octaves.min() < 1.6
    assert pink.square().mean().item() == pytest.approx(1, rel=1e-3)
    assert draw_noise(1, "pink", np.random.default_rng(0)).shape == (1, 1)


def test_silence_stays_silence() -> None:
    silent = torch.zeros(100, 1)
    assert torch.equal(augment(silent, RATE, ALL, generator_of(0, 0, 0)).abs().sum(), torch.tensor(0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 2}, "share: expected a number from 0 to 1, got 2"),
        ({"speed": 0.9}, "speed: expected a number from 1 to 2, got 0.9"),
        ({"shift_seconds": -1}, "shift_seconds: expected a number >= 0, got -1"),
        ({"noise": "brown"}, "noise: expected one of white, pink, got 'brown'"),
        ({"noise_db": [20, 5]}, "noise_db: expected a lowest and a highest ratio in dB"),
        ({"noise_db": [20]}, "noise_db: expected a lowest and a highest ratio in dB"),
    ],
)
def test_values_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AugmentationConfig(**options)  # type: ignore[arg-type]
