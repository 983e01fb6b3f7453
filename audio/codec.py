"""Eight-bit codecs: a waveform as class numbers that a model can predict, and back.

Both codecs use one fixed scale, [-1, 1], for every recording. Rescaling each clip by its own extremes, as
some published code does, shifts the zero of a lopsided clip, so that silence is no longer the middle code.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

BITS = 8
_MOST_BITS = 16


def mu_law_encode(waveform: Float[Tensor, "*shape"], bits: int = BITS) -> Int[Tensor, "*shape"]:
    """Quantise a waveform on the mu-law curve, which spends its levels on quiet samples.

    ITU-T G.711's curve in its continuous form, sign(x) log(1 + mu |x|) / log(1 + mu), mu = 2^bits - 1.

    Args:
        waveform: Floating samples; those outside [-1, 1] are clipped.
        bits: Bits of a code, 1 to 16.

    Returns:
        int64 codes from 0 to 2^bits - 1, of the same shape. Silence has the code 2^(bits - 1).

    Raises:
        ValueError: If `bits` is out of range.
        TypeError: If `waveform` is not floating point.
    """
    mu = _top_code(bits)
    samples = _samples(waveform)
    curved = samples.sign() * torch.log1p(mu * samples.abs()) / math.log1p(mu)
    return _quantise(curved, mu)


def mu_law_decode(codes: Int[Tensor, "*shape"], bits: int = BITS) -> Float[Tensor, "*shape"]:
    """Turn mu-law codes back into samples; encoding those gives the same codes.

    Args:
        codes: Integer codes from 0 to 2^bits - 1.
        bits: Bits of a code, 1 to 16.

    Returns:
        float32 samples in [-1, 1], of the same shape.

    Raises:
        ValueError: If `bits` or a code is out of range.
        TypeError: If `codes` is not integer.
    """
    mu = _top_code(bits)
    curved = _levels(codes, mu)
    return (curved.sign() * torch.expm1(curved.abs() * math.log1p(mu)) / mu).float()


def linear_encode(waveform: Float[Tensor, "*shape"], bits: int = BITS) -> Int[Tensor, "*shape"]:
    """Quantise a waveform in equal steps of 2 / (2^bits - 1).

    Args:
        waveform: Floating samples; those outside [-1, 1] are clipped.
        bits: Bits of a code, 1 to 16.

    Returns:
        int64 codes from 0 to 2^bits - 1, of the same shape. Silence has the code 2^(bits - 1).

    Raises:
        ValueError: If `bits` is out of range.
        TypeError: If `waveform` is not floating point.
    """
    return _quantise(_samples(waveform), _top_code(bits))


def linear_decode(codes: Int[Tensor, "*shape"], bits: int = BITS) -> Float[Tensor, "*shape"]:
    """Turn linear codes back into samples; encoding those gives the same codes.

    Args:
        codes: Integer codes from 0 to 2^bits - 1.
        bits: Bits of a code, 1 to 16.

    Returns:
        float32 samples in [-1, 1], of the same shape, at most half a step from what was encoded.

    Raises:
        ValueError: If `bits` or a code is out of range.
        TypeError: If `codes` is not integer.
    """
    return _levels(codes, _top_code(bits)).float()


def _top_code(bits: int) -> int:
    if not 1 <= bits <= _MOST_BITS:
        raise ValueError(f"bits: expected 1 to {_MOST_BITS}, got {bits}")
    return 2**bits - 1


def _samples(waveform: Tensor) -> Tensor:
    if not waveform.is_floating_point():
        raise TypeError(f"waveform: expected floating-point samples in [-1, 1], got {waveform.dtype}")
    # float64, so that a level of the finest scale lands on its own code whatever the input's precision
    return waveform.double().clamp(-1.0, 1.0)


def _quantise(values: Tensor, top: int) -> Tensor:
    """Map [-1, 1] to the nearest of `top` + 1 levels; a tie, such as zero, gets the upper one."""
    return ((values + 1.0) / 2.0 * top + 0.5).floor().long()


def _levels(codes: Tensor, top: int) -> Tensor:
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise TypeError(f"codes: expected integers, got {codes.dtype}")
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) > top):
        raise ValueError(f"codes: expected 0 to {top}, got {int(codes.min())} to {int(codes.max())}")
    return codes.double() / top * 2.0 - 1.0
