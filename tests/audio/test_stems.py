"""Stems: padding, parts, other sampling rates."""

from __future__ import annotations

import math

import pytest
import torch

from audio.filterbank import Filterbank, FilterbankConfig, FilterbankStem, MaskedBatchNorm, gabor_filters
from audio.rates import kernel_at_rate, stride_at_rate
from audio.spectrograms import LogMel, SpectrogramConfig, SpectrogramStem, mel_filters
from audio.stems import StridedStem, StridedStemConfig
from seqmamba.errors import UserError

SHORT, LONG = 5000, 6100


def strided(causal=False):
    torch.manual_seed(0)
    return StridedStem(StridedStemConfig((16, 8), (4, 4), (8,)), 1, 6, causal).double().eval()


def tones(count=1600, periods=(9, 17, 40)):
    t = torch.arange(count, dtype=torch.float64)
    return sum(torch.sin(math.tau * t / period) for period in periods)[None, :, None] / len(periods)


STEMS = {
    "centred": strided,
    "causal": lambda: strided(causal=True),
    "filterbank": lambda: FilterbankStem(FilterbankConfig(widths=(4, 8, 8)), 16_000, 6).double().eval(),
    "patches": lambda: SpectrogramStem(SpectrogramConfig(mels=32), 16_000, 6).eval(),
}


@pytest.mark.parametrize("name", STEMS)
def test_what_stands_behind_the_true_length_does_not_matter(name):
    torch.manual_seed(0)
    stem = STEMS[name]()
    dtype = torch.float32 if name == "patches" else torch.float64
    short, long = (0.1 * torch.randn(1, length, 1, dtype=dtype) for length in (SHORT, LONG))
    padded = torch.cat((short, torch.full((1, LONG - SHORT, 1), math.nan, dtype=dtype)), dim=1)
    both = stem(torch.cat((padded, long)), torch.tensor([SHORT, LONG]))
    for row, alone in enumerate((stem(short), stem(long))):
        assert both.lengths[row] == alone.x.shape[1]
        assert torch.allclose(both.x[row, : both.lengths[row]], alone.x[0], atol=1e-6)
    if name != "patches":
        assert not both.x[0, both.lengths[0] :].any()
        assert both.lengths[0] == math.ceil(SHORT / stem.frame)


def test_the_causal_stem_sees_nothing_ahead_and_takes_parts():
    stem, x = strided(causal=True), tones(101)
    whole = stem(x).x
    assert whole.shape == (1, 7, 6)
    changed = x.clone()
    changed[:, 48:] += 1
    assert torch.equal(stem(changed).x[:, :3], whole[:, :3])
    for parts in ([1, 7, 40, 0, 53], [101], [16] * 6 + [5]):
        state, frames = stem.init_state(1), []
        for number, part in enumerate(x.split(parts, dim=1)):
            some, state = stem.stream(part, state, last=number == len(parts) - 1)
            frames.append(some)
        assert torch.allclose(torch.cat(frames, dim=1), whole, atol=1e-12)
        assert all(kept.shape[1] < 24 for kept in state)


def test_a_centred_stem_takes_no_parts():
    with pytest.raises(UserError, match="a centred stem takes whole waveforms"):
        strided().init_state(1)


@pytest.mark.parametrize("causal", [False, True])
def test_frames_at_half_the_rate_are_those_of_the_training(causal):
    stem, wave = strided(causal), tones()
    expected, known = stem(wave), stem(wave[:, ::2], rate=2.0)
    assert known.rate == 1
    assert known.x.shape == expected.x.shape
    inside = slice(4, -4)
    error = (known.x - expected.x)[:, inside].abs().mean()
    ignorant = (stem(wave[:, ::2]).x - expected.x[:, ::2])[:, inside].abs().mean()
    assert error < (0.12 if causal else 0.01) * ignorant  # a causal kernel cannot interpolate at its end


def test_longer_frames_leave_their_rate_to_the_backbone():
    frames = strided()(tones()[:, ::2], rate=2.0, keep_frames=False)
    assert frames.x.shape[1] == 50
    assert frames.rate == 2


def test_strides_and_kernels_at_other_rates():
    assert stride_at_rate(8, 2.0) == (4, 1.0)
    assert stride_at_rate(3, 2.0) == (2, pytest.approx(4 / 3))
    assert stride_at_rate(1, 4.0) == (1, 4.0)
    weight = torch.randn(2, 1, 9, dtype=torch.float64)
    for rate in (0.5, 1.25, 2.0):
        kernel, first = kernel_at_rate(weight, -4, rate)
        assert torch.allclose(kernel.sum(2), weight.sum(2))
        assert first < -4 / rate
        kernel, first = kernel_at_rate(weight, -8, rate, newest=0)
        assert first + kernel.shape[2] - 1 == 0
        assert torch.allclose(kernel.sum(2), weight.sum(2))
    same, first = kernel_at_rate(weight, -4, 1.0)
    assert torch.allclose(same[..., -4 - first : 5 - first], weight)
    with pytest.raises(UserError, match="rate: expected a positive number, got 0"):
        kernel_at_rate(weight, 0, 0)


def test_gabor_filters_answer_to_their_own_tone():
    bank = Filterbank(FilterbankConfig(filters=32, window=800, hop=40), 16_000)
    centres = 700 * (
        10 ** (torch.linspace(*(2595 * math.log10(1 + f / 700) for f in (60, 8000)), 33) / 2595) - 1
    )
    t = torch.arange(8000) / 16_000
    for place in (5, 12, 28):
        rows, left = bank(torch.sin(math.tau * centres[place] * t)[None, :, None], 1.0)
        row = rows[0, 20].detach()
        assert row.argmax() == place
        assert row[place] == pytest.approx(0, abs=0.05)
        assert row[place + 1].exp() == pytest.approx(1 / 16, abs=0.03)  # half power half way: a Gaussian
        assert left == 1
    assert gabor_filters(4, 64, 8000, 50.0).shape == (8, 64)


def test_masked_batch_norm_takes_its_statistics_from_true_rows():
    torch.manual_seed(0)
    ours, theirs = MaskedBatchNorm(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(2, 3, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    true = x.permute(0, 2, 3, 1)[mask].flatten(0, 1)  # (positions, 3)
    expected = theirs(true.T[None, :, :, None])
    found = ours(x, mask).permute(0, 2, 3, 1)[mask].flatten(0, 1)
    assert torch.allclose(found, expected[0, :, :, 0].T, atol=1e-5)
    assert torch.allclose(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x, mask), ours(x))


def test_a_spectrogram_means_the_same_at_any_rate():
    mel = LogMel(SpectrogramConfig(mels=40), 16_000)
    tone = torch.sin(math.tau * 1000 * torch.arange(16_000) / 16_000)[None, :, None]
    fast, slow = mel(tone), mel(tone[:, ::2], rate=2.0)
    assert fast.x.shape == slow.x.shape == (1, 100, 40)
    assert fast.x[0, 50].max() == pytest.approx(-0.3, abs=0.3)
    assert (fast.x - slow.x)[0, 50, :20].abs().max() < 0.2
    assert slow.x[0, 50, -1] < -15  # above half the slower rate: silence


def test_spectrograms_with_more_filters_than_frequencies_are_refused():
    with pytest.raises(UserError, match="mels: expected fewer filters"):
        mel_filters(64, 16_000, SpectrogramConfig(mels=128))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StridedStemConfig((8,), (9,), ()), "strides: expected at most the kernels"),
        (lambda: StridedStemConfig((8, 8), (4,), (2,)), "strides: expected 2, one for each kernel"),
        (lambda: StridedStemConfig((8, 8), (4, 4), ()), "widths: expected 1, one less than kernels"),
        (lambda: FilterbankConfig(hop=600), "hop: expected at most the window, 512"),
        (lambda: FilterbankConfig(widths=(8,)), "pools: expected 1 pairs"),
        (lambda: SpectrogramConfig(highest=10.0), "highest: expected null or a frequency > 20"),
    ],
)
def test_bad_sizes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
