from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audio.codec import linear_decode, linear_encode, mu_law_decode, mu_law_encode

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
