from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio.codec import (
    legacy_decode,
    legacy_encode,
    linear_decode,
    linear_encode,
    mu_law_decode,
    mu_law_encode,
)

Encode = Callable[..., Tensor]

both = pytest.mark.parametrize(
    ("encode", "decode"),
    [(mu_law_encode, mu_law_decode), (linear_encode, linear_decode)],
    ids=["mu_law", "linear"],
)


@both
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_every_code_survives_a_round_trip(encode: Encode, decode: Encode, bits: int) -> None:
    codes = torch.arange(2**bits)
    waveform = decode(codes, bits)
    assert waveform.dtype == torch.float32
    assert torch.equal(encode(waveform, bits), codes)
    assert (waveform.diff() > 0).all()
    assert waveform[0] == -1
    assert waveform[-1] == 1


@both
def test_silence_is_the_middle_code_in_every_clip(encode: Encode, decode: Encode) -> None:
    lopsided = torch.tensor([0.9, 0.0, -0.3, 0.0])
    assert encode(lopsided)[[1, 3]].tolist() == [128, 128]
    assert abs(decode(torch.tensor([128])).item()) <= 1.001 / 255


@both
def test_samples_out_of_range_are_clipped(encode: Encode, decode: Encode) -> None:
    assert encode(torch.tensor([-7.0, -1.0, 1.0, 7.0])).tolist() == [0, 0, 255, 255]


@both
def test_the_quantiser_has_no_bias(encode: Encode, decode: Encode) -> None:
    waveform = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    error = decode(encode(waveform)) - waveform
    assert abs(error.mean().item()) < 1e-6


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_linear_error_is_at_most_half_a_step(samples: list[float]) -> None:
    waveform = torch.tensor(samples, dtype=torch.float64)
    assert (linear_decode(linear_encode(waveform)) - waveform).abs().max() <= 1 / 255 + 1e-6


def test_mu_law_follows_its_formula_and_favours_quiet_samples() -> None:
    x = 0.01
    curved = math.log1p(255 * x) / math.log1p(255)
    assert mu_law_encode(torch.tensor([x])).item() == math.floor((curved + 1) / 2 * 255 + 0.5)
    quiet = torch.linspace(-0.01, 0.01, 1001)
    worst = [(decode(encode(quiet)) - quiet).abs().max() for encode, decode in _CODECS]
    assert worst[0] < worst[1] / 10


_CODECS = ((mu_law_encode, mu_law_decode), (linear_encode, linear_decode))


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shapes_and_types(encode: Encode, decode: Encode, dtype: torch.dtype) -> None:
    waveform = torch.zeros(2, 5, 1, dtype=dtype)
    codes = encode(waveform)
    assert codes.dtype == torch.int64
    assert codes.shape == waveform.shape
    assert decode(codes.to(torch.uint8)).shape == waveform.shape
    assert encode(torch.zeros(0, 1)).shape == (0, 1)


@both
def test_what_is_no_waveform_or_code_is_refused(encode: Encode, decode: Encode) -> None:
    with pytest.raises(
        TypeError, match=r"waveform: expected floating-point samples in \[-1, 1\], got torch.int64"
    ):
        encode(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeError, match="codes: expected integers"):
        decode(torch.zeros(3))
    with pytest.raises(ValueError, match="codes: expected 0 to 255, got -1 to 256"):
        decode(torch.tensor([-1, 256]))
    for bits in (0, 17):
        with pytest.raises(ValueError, match="bits: expected 1 to 16"):
            encode(torch.zeros(1), bits)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_mu_law_is_that_of_torchaudio(bits: int) -> None:
    from torchaudio.functional import mu_law_decoding, mu_law_encoding

    waveform = torch.cat((torch.linspace(-1, 1, 50_001), torch.linspace(-1e-3, 1e-3, 10_001))).double()
    assert torch.equal(mu_law_encode(waveform, bits), mu_law_encoding(waveform, 2**bits))
    codes = torch.arange(2**bits)
    torch.testing.assert_close(
        mu_law_decode(codes, bits), mu_law_decoding(codes, 2**bits), atol=2e-6, rtol=1e-4
    )


@pytest.mark.parametrize("codec", ["mu_law", "linear"])
def test_the_legacy_codec_by_its_formula(codec: str) -> None:
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(3, 200, 1, generator=generator, dtype=torch.float64) - 0.3
    codes = legacy_encode(clips, 8, codec)  # type: ignore[arg-type]
    for clip, its in zip(clips, codes, strict=True):
        s = (clip - clip.min()) / (clip.max() - clip.min() + 1e-6)
        if codec == "mu_law":
            x = 2 * s - 1
            s = (x.sign() * (1 + 255 * x.abs()).log() / math.log(256) + 1) / 2
        assert torch.equal(its, (255.99 * s + 0.005).floor().long())
        assert (int(its.min()), int(its.max())) == (0, 255)


def test_what_the_legacy_codec_does_to_silence() -> None:
    lopsided = torch.tensor([0.9, 0.0, -0.3])[:, None]
    assert legacy_encode(lopsided)[1].item() == 15  # not 128, the middle
    assert legacy_encode(torch.zeros(5, 1)).unique().tolist() == [0]
    # The lower edge of a level stands for it: decoded samples are too low on average.
    ramp = torch.linspace(-1, 1, 100_001)[:, None]
    assert (legacy_decode(legacy_encode(ramp)) - ramp).mean().item() == pytest.approx(-0.0109, abs=2e-4)
    assert legacy_decode(torch.tensor([0, 128, 255]), codec="linear").tolist() == [-1, 0, 1 - 2 / 256]
    with pytest.raises(ValueError, match="codes: expected 0 to 255, got 256 to 256"):
        legacy_decode(torch.tensor([256]))
    with pytest.raises(TypeError, match="waveform: expected floating-point"):
        legacy_encode(torch.zeros(3, 1, dtype=torch.int64))
