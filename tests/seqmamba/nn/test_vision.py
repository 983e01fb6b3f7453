"""The bidirectional mixer of patches against two loops, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scan_loop import causal_convolution, scan_in_order
from torch.nn import functional as F

from seqmamba.errors import UserError
from seqmamba.nn import MixerConfig, VisionMamba, build_mixer, pack, unpack


def make(**options: Any) -> VisionMamba:
    torch.manual_seed(0)
    mixer = build_mixer("vision_mamba", MixerConfig(6, direction="bidirectional", d_state=3, **options))
    assert isinstance(mixer, VisionMamba)
    with torch.no_grad():  # so that the two differ
        mixer.A_b_log += torch.randn_like(mixer.A_b_log)
    return mixer


@pytest.mark.parametrize("length", [1, 9])
def test_one_convolution_and_selection_feed_two_scans(length: int) -> None:
    mixer = make().double()
    x = torch.randn(2, length, 6, dtype=torch.float64, requires_grad=True)
    inner, z = mixer.in_proj(x).chunk(2, dim=-1)
    u = causal_convolution(mixer, inner)
    order = range(length)
    y = scan_in_order(mixer, u, order) + scan_in_order(mixer, u, order[::-1], mixer.A_b_log)
    expected = mixer.out_proj(y * F.silu(z))
    actual, _ = mixer(x)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    leaves = [x, *mixer.parameters()]
    found, wanted = (torch.autograd.grad(y.square().sum(), leaves) for y in (actual, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9)


def test_parameters_are_a_causal_blocks_and_a_second_a() -> None:
    config = MixerConfig(6, d_state=3)
    names = {name for name, _ in build_mixer("mamba", config).named_parameters()}
    assert {name for name, _ in make().named_parameters()} == names | {"A_b_log"}


def test_packed_sequences_equal_separate_ones() -> None:
    mixer = make().double()
    sequences = [torch.randn(n, 6, dtype=torch.float64) for n in (4, 1, 7)]
    packed, reset = pack(sequences)
    y, _ = mixer(packed, reset=reset)
    for got, x in zip(unpack(y, [4, 1, 7]), sequences, strict=True):
        torch.testing.assert_close(got, mixer(x[None])[0][0])


@pytest.mark.parametrize("impl", ["chunked", "reference", "numba"])
def test_every_implementation_of_the_scan(impl: str) -> None:
    x = torch.randn(2, 9, 6)
    torch.testing.assert_close(make(scan_impl=impl)(x)[0], make()(x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"complex_state": True}, {"bc_norm": "rms"}, {"bc_norm": "learned", "dt_limit": (0.01, 0.2)}]
)
def test_options_of_the_selection(options: dict[str, Any]) -> None:
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    actual, expected = (make(scan_impl=impl, **options).double()(x)[0] for impl in ("auto", "reference"))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    assert not torch.allclose(actual, make().double()(x)[0])


def test_states_and_rates_are_refused() -> None:
    mixer, x = make(), torch.randn(1, 4, 6)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        mixer(x, return_state=True)
    with pytest.raises(UserError, match="bidirectional layer has no recurrent state"):
        mixer.init_state(1)
    with pytest.raises(UserError, match="mixer vision_mamba runs at the sampling rate"):
        mixer(x, rate=0.5)
    with pytest.raises(UserError, match="mixer 'vision_mamba' offers bidirectional, got 'causal'"):
        build_mixer("vision_mamba", MixerConfig(6))
    with pytest.raises(UserError, match=r"mixer vision_mamba adds its directions in one .*, got 'gate'"):
        build_mixer("vision_mamba", MixerConfig(6, direction="bidirectional", combine="gate"))
