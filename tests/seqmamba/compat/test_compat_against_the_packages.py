"""Our functions against mamba-ssm's and causal-conv1d's own, where these are installed beside a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmamba import compat

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]
TOLERANCE = {"rtol": 2e-3, "atol": 2e-3}  # theirs multiply in tf32 and use fast math


def _theirs(module: str, name: str) -> Callable[..., Any]:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        pytest.skip(f"{module} cannot be imported: {error}")


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).cuda()


def _assert_same(actual: Any, expected: Any) -> None:
    for got, wanted in zip(_listed(actual), _listed(expected), strict=True):
        torch.testing.assert_close(got.float(), wanted.float(), **TOLERANCE)


def _listed(results: Any) -> list[Tensor]:
    return [results] if isinstance(results, Tensor) else list(results)


@pytest.mark.parametrize("constant", [False, True])
def test_the_scan(constant: bool) -> None:
    theirs = _theirs("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")
    u, delta, z = (_normal(2, 32, 300, seed=i) for i in range(3))
    projections = [
        _normal(32, 8, seed=5) if constant else _normal(2, 8, 300, seed=5),
        _normal(2, 8, 300, seed=6),
    ]
    rest = (_normal(32), z, _normal(32, seed=1) * 0.1, True, True)
    A = -_normal(32, 8).abs()
    ours = compat.selective_scan_fn(u, delta - 2, A, *projections, *rest)
    peer = theirs(u, delta - 2, A, *projections, *rest)
    # with a B that is constant in time, the package folds B into C and returns a state without it
    _assert_same(ours[:1] if constant else ours, peer[:1] if constant else peer)


@pytest.mark.parametrize("indexed", [False, True])
def test_the_step(indexed: bool) -> None:
    theirs = _theirs("mamba_ssm.ops.triton.selective_state_update", "selective_state_update")
    state, x, z = _normal(5 if indexed else 3, 4, 16, 8), _normal(3, 4, 16), _normal(3, 4, 16, seed=1)
    A, B, C = -_normal(4, 16, 8).abs(), _normal(3, 2, 8), _normal(3, 2, 8, seed=1)
    options = {"D": _normal(4, 16), "z": z, "dt_bias": _normal(4, 16, seed=1), "dt_softplus": True}
    if indexed:
        options["state_batch_indices"] = torch.tensor([4, -1, 0], dtype=torch.int32).cuda()
    results = []
    for function in (compat.selective_state_update, theirs):
        held = state.clone()
        results.append((function(held, x, x - 2, A, B, C, **options), held))
    _assert_same(*results)


@pytest.mark.parametrize("packed", [False, True])
def test_the_chunk_scan(packed: bool) -> None:
    theirs = _theirs("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
    x, dt = _normal(1, 300, 4, 32), _normal(1, 300, 4) - 1
    B, C = _normal(1, 300, 2, 16), _normal(1, 300, 2, 16, seed=1)
    options: dict[str, Any] = {
        "D": _normal(4),
        "z": _normal(1, 300, 4, 32, seed=1),
        "dt_bias": _normal(4, seed=1),
    }
    options |= {"dt_softplus": True, "return_final_states": True, "dt_limit": (0.05, 0.8)}
    if packed:
        bounds = [0, 100, 170, 300]
        number = torch.arange(3).repeat_interleave(torch.tensor(bounds).diff())[None].int().cuda()
        options |= {
            "seq_idx": number,
            "cu_seqlens": torch.tensor(bounds).int().cuda(),
            "return_varlen_states": True,
        }
    else:
        options["initial_states"] = _normal(1, 4, 32, 16)
    A = -_normal(4).abs()
    ours = compat.mamba_chunk_scan_combined(x, dt, A, B, C, 64, **options)
    for got, wanted in zip(ours, theirs(x, dt, A, B, C, 64, **options), strict=True):
        # the package multiplies float32 in tf32
        assert (got - wanted).norm() <= 3e-3 * wanted.norm()


@pytest.mark.parametrize("packed", [False, True])
def test_the_convolution(packed: bool) -> None:
    theirs = _theirs("causal_conv1d", "causal_conv1d_fn")
    x, weight, bias = _normal(2, 100, 16).transpose(1, 2), _normal(16, 4), _normal(16)
    if packed:
        number = torch.tensor([0] * 40 + [-1] * 10 + [2] * 50, dtype=torch.int32).expand(2, -1).contiguous()
        options: dict[str, Any] = {"seq_idx": number.cuda()}
    else:
        options = {"initial_states": _normal(2, 3, 16).transpose(1, 2), "return_final_states": True}
    _assert_same(
        compat.causal_conv1d_fn(x, weight, bias, activation="silu", **options),
        theirs(x, weight, bias, activation="silu", **options),
    )


@pytest.mark.parametrize("option", [None, "cache_seqlens", "conv_state_indices"])
@pytest.mark.parametrize("length", [1, 2])
def test_the_update(option: str | None, length: int) -> None:
    theirs = _theirs("causal_conv1d", "causal_conv1d_update")
    x, state, weight, bias = _normal(3, 16, length), _normal(5, 16, 6), _normal(16, 4), _normal(16)
    values = {"cache_seqlens": [4, 11, 6], "conv_state_indices": [4, -1, 0]}
    options = {} if option is None else {option: torch.tensor(values[option], dtype=torch.int32).cuda()}
    state = state if option == "conv_state_indices" else state[:3]
    results = []
    for function in (compat.causal_conv1d_update, theirs):
        held = state.clone()
        results.append((function(x, held, weight, bias, "silu", **options), held))
    _assert_same(*results)
