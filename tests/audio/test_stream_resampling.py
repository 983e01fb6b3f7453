from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.resampling import Resampler, decimate, resample
from seqmamba.errors import UserError

RATES = [(44_100, 16_000), (16_000, 44_100), (16_000, 8_000), (8_000, 16_000), (48_000, 44_100)]


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
@pytest.mark.parametrize("length", [1, 7, 441, 5_000])
def test_the_numbers_are_those_of_torchaudio(from_rate: int, to_rate: int, length: int) -> None:
    from torchaudio.functional import resample as published

    # torchaudio computes its kernel in the waveform's precision, ours is always that of float64.
    for dtype, error in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        waveform = _noise(2, length, 3).to(dtype)
        ours = resample(waveform, from_rate, to_rate)
        theirs = published(waveform.mT.contiguous(), from_rate, to_rate).mT
        assert ours.shape == theirs.shape == (2, math.ceil(length * to_rate / from_rate), 3)
        torch.testing.assert_close(ours, theirs, atol=error, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([*RATES, (7, 5), (5, 7), (16_000, 15_999), (1, 3), (1000, 1000)]),
    st.lists(st.integers(0, 3_000), min_size=1, max_size=8).filter(sum),
)
def test_blocks_of_any_size_give_the_whole(rates: tuple[int, int], sizes: list[int]) -> None:
    waveform = _noise(sum(sizes), 2)
    resampler = Resampler(*rates)
    for _ in range(2):  # it begins anew after a flush
        made = [resampler.push(block) for block in waveform.split(sizes)]
        last = resampler.flush()
        if len(last):
            made.append(last)
        torch.testing.assert_close(torch.cat(made), resample(waveform, *rates), atol=1e-6, rtol=0)


def test_rates_without_a_common_divisor_are_cheap() -> None:
    tone = torch.sin(2 * math.pi * 440 / 44_101 * torch.arange(88_202, dtype=torch.float64))[:, None]
    out = resample(tone, 44_101, 22_051)
    expected = torch.sin(2 * math.pi * 440 / 22_051 * torch.arange(len(out), dtype=torch.float64))[:, None]
    assert (out - expected)[100:-100].abs().max() < 1e-3
    kernel_floats = sum(band.kernel.numel() for band in Resampler(44_101, 22_051)._bands)
    assert kernel_floats < 2_000_000  # the whole table of all taps has a billion


def test_a_stream_is_carried_in_little_memory() -> None:
    resampler = Resampler(44_100, 16_000)
    for block in _noise(200_000, 1).split(1_000):
        resampler.push(block)
        assert resampler._held is not None
        assert resampler._held.untyped_storage().nbytes() < 4 * 3_000


def test_what_the_slower_rate_cannot_hold_goes_or_folds_back() -> None:
    tone = torch.sin(2 * math.pi * 7_000 / 16_000 * torch.arange(16_000))[:, None]
    assert resample(tone, 16_000, 8_000)[100:-100].abs().max() < 0.01
    folded = decimate(tone, 16_000, 8_000)
    assert torch.equal(folded, tone[::2])
    assert folded.abs().max() > 0.9


def test_precision_and_gradients() -> None:
    waveform = _noise(50, 1).double().requires_grad_()
    out = resample(waveform, 3, 2)
    assert out.dtype == torch.float64
    out.sum().backward()
    assert waveform.grad is not None
    assert waveform.grad[20:30].mean().item() == pytest.approx(2 / 3, rel=0.02)
    same = _noise(5, 1)
    assert resample(same, 8_000, 8_000) is same
    assert resample(torch.zeros(0, 2), 8_000, 4_000).shape == (0, 2)


def test_rates_that_are_none() -> None:
    for rates in ((0, 8_000), (8_000, -1), (8_000.5, 8_000)):
        with pytest.raises(UserError, match=r"(from|to)_rate: expected a whole number >= 1"):
            Resampler(*rates)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="to_rate: decimation needs a divisor of 44100 Hz, got 16000"):
        decimate(_noise(10, 1), 44_100, 16_000)
    with pytest.raises(UserError, match="resampling: expected samples, got none"):
        Resampler(2, 1).flush()
