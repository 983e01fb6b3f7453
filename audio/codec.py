"""Codecs of 8 to 16 bits: a waveform as class numbers that a model can predict, and back.

Both codecs use one fixed scale, [-1, 1], for every recording. Rescaling each clip by its own extremes, as
some published code does, shifts the zero of a lopsided clip, so that silence is no longer the middle code;
`legacy_encode` does so to compare with likelihoods that were published with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

BITS = 8
_MOST_BITS = 16
_LEGACY_WIDTH = 1e-6
_LEGACY_MARGIN = 0.01


def mu_law_encode(waveform: Float[Tensor, "*shape"], bits: int = BITS) -> Int[Tensor, "*shape"]:
    """Quantise a waveform on the mu-law curve, which spends its levels on quiet samples.

    ITU-T G.711's curve in its continuous form, ``sign(x) log(1 + mu |x|) / log(1 + mu)``, mu = 2^bits - 1.

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


Codec = Literal["mu_law", "linear"]

CODECS: dict[Codec, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "mu_law": (mu_law_encode, mu_law_decode),
    "linear": (linear_encode, linear_decode),
}
"""How each is encoded and decoded, given samples or codes, and bits."""


def legacy_encode(
    waveform: Float[Tensor, "*batch length channels"],
    bits: int = BITS,
    codec: Codec = "mu_law",
) -> Int[Tensor, "*batch length channels"]:
    """Quantise clips as the code of SaShiMi does (Goel et al. 2022, arXiv:2202.09729), each on its own scale.

    A clip is stretched to s in [0, 1], ``(x - min) / (max - min + 1e-6)``, whatever its zero; for mu-law
    ``2 s - 1`` goes through the curve and back to [0, 1]. The code is ``floor((2^bits - 0.01) s + 0.005)``.
    Published bits per sample were measured so. A silent clip has the code 0 only.

    Args:
        waveform: Floating samples.
        bits: Bits of a code, 1 to 16.
        codec: ``mu_law`` or ``linear``.

    Returns:
        int64 codes from 0 to 2^bits - 1, of the same shape.

    Raises:
        ValueError: If `bits` is out of range.
        TypeError: If `waveform` is not floating point.
    """
    mu = _top_code(bits)
    _require_samples(waveform)
    samples = waveform.double()
    lowest = samples.amin(dim=(-2, -1), keepdim=True)
    width = samples.amax(dim=(-2, -1), keepdim=True) - lowest
    samples = (samples - lowest) / (width + _LEGACY_WIDTH)
    if codec == "mu_law":
        stretched = samples * 2 - 1
        samples = (stretched.sign() * torch.log1p(mu * stretched.abs()) / math.log1p(mu) + 1) / 2
    return (samples * (mu + 1 - _LEGACY_MARGIN) + _LEGACY_MARGIN / 2).floor().long()


def legacy_decode(
    codes: Int[Tensor, "*shape"], bits: int = BITS, codec: Codec = "mu_law"
) -> Float[Tensor, "*shape"]:
    """Turn the codes of `legacy_encode` into samples on the stretched scale, as that code does.

    A code becomes the lower edge of its level, so samples are half a level too low on average, and the
    clip's own scale is lost.

    Args:
        codes: Integer codes from 0 to 2^bits - 1.
        bits: Bits of a code, 1 to 16.
        codec: ``mu_law`` or ``linear``.

    Returns:
        float32 samples in [-1, 1], of the same shape.

    Raises:
        ValueError: If `bits` or a code is out of range.
        TypeError: If `codes` is not integer.
    """
    mu = _top_code(bits)
    _require_codes(codes, mu)
    samples = codes.double() / (mu + 1) * 2 - 1
    if codec == "mu_law":
        samples = samples.sign() * torch.expm1(samples.abs() * math.log1p(mu)) / mu
    return samples.float()


def _top_code(bits: int) -> int:
    if not 1 <= bits <= _MOST_BITS:
        raise ValueError(f"bits: expected 1 to {_MOST_BITS}, got {bits}")
    return 2**bits - 1


def _require_samples(waveform: Tensor) -> None:
    if not waveform.is_floating_point():
        raise TypeError(f"waveform: expected floating-point samples in [-1, 1], got {waveform.dtype}")


def _samples(waveform: Tensor) -> Tensor:
    _require_samples(waveform)
    # float64, so that a level of the finest scale lands on its own code whatever the input's precision
    return waveform.double().clamp(-1.0, 1.0)


def _quantise(values: Tensor, top: int) -> Tensor:
    """Map [-1, 1] to the nearest of `top` + 1 levels; a tie, such as zero, gets the upper one."""
    return ((values + 1.0) / 2.0 * top + 0.5).floor().long()


def _levels(codes: Tensor, top: int) -> Tensor:
    _require_codes(codes, top)
    return codes.double() / top * 2.0 - 1.0


def _require_codes(codes: Tensor, top: int) -> None:
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise TypeError(f"codes: expected integers, got {codes.dtype}")
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) > top):
        raise ValueError(f"codes: expected 0 to {top}, got {int(codes.min())} to {int(codes.max())}")
