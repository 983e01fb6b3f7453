from __future__ import annotations

import pytest
import torch
from lti_cases import LTI_TOLERANCE, Watch, cast, lti_arguments
from operator_cases import assert_all_close, some_resets
from torch import Tensor

from seqmamba.errors import UserError
from seqmamba.ops import bidirectional_lti, lti
from seqmamba.ops.lti.fft import fast_length


def both_ways(length: int, *, low_rank: bool) -> dict[str, Tensor]:
    arguments = lti_arguments(length=length, low_rank=low_rank)
    del arguments["initial_state"]
    arguments["C"] = torch.stack((arguments["C"], arguments["B"].conj() + 0.5))
    return arguments


def two_runs(u: Tensor, *, C: Tensor, D: Tensor, reset: Tensor | None = None, **system: Tensor) -> Tensor:
    """The specification: one run each way, the skip counted once."""
    options = {"reset": reset, "impl": "reference"}
    ahead = lti(u, C=C[0], D=D, **system, **options)
    return ahead + lti(u, C=C[1], **system, **options, reverse=True)


def with_gradients(operator, arguments, dtype, **options):
    leaves = {name: cast(x, dtype).clone().requires_grad_() for name, x in arguments.items()}
    y = operator(**leaves, **options)
    seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).to(y.dtype)
    gradients = torch.autograd.grad(y, list(leaves.values()), seed)
    return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}


@pytest.mark.parametrize("impl", ["fft", "chunked", "reference"])
@pytest.mark.parametrize("length", [1, 2, 37, 150])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("low_rank", [False, True])
def test_it_is_one_run_each_way(impl: str, length: int, packed: bool, low_rank: bool) -> None:
    arguments = both_ways(length, low_rank=low_rank)
    reset = some_resets(2, length) if packed else None
    actual = with_gradients(bidirectional_lti, arguments, torch.float64, reset=reset, impl=impl)
    expected = with_gradients(two_runs, arguments, torch.float64, reset=reset)
    assert_all_close(actual, expected, LTI_TOLERANCE[torch.float64])


@pytest.mark.parametrize("impl", ["fft", "chunked"])
def test_float32(impl: str) -> None:
    arguments = both_ways(150, low_rank=False)
    actual = with_gradients(bidirectional_lti, arguments, torch.float32, impl=impl)
    rounded = {name: cast(x, torch.float32) for name, x in arguments.items()}
    assert_all_close(actual, with_gradients(two_runs, rounded, torch.float64), LTI_TOLERANCE[torch.float32])


def test_the_sequence_is_transformed_once_each_way() -> None:
    arguments = both_ways(50, low_rank=False)
    with Watch() as counted:
        bidirectional_lti(**arguments, impl="fft")
    assert counted.calls["aten::_fft_r2c"] == 2  # the sequence, and both kernels together
    assert counted.calls["aten::_fft_c2r"] == 1
    assert "aten::flip" not in counted.calls


@pytest.mark.parametrize("at_least", [1, 2, 3, 17, 31, 1000, 32_767, 32_769, 40_961, 2**21 - 1, 2**21 + 1])
def test_fast_lengths_have_small_factors_and_waste_little(at_least: int) -> None:
    size = fast_length(at_least)
    assert at_least <= size <= max(8, 1.25 * at_least)
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    assert size == 1


def test_mistakes_are_named() -> None:
    arguments = both_ways(20, low_rank=False)
    with pytest.raises(UserError, match=r"bidirectional_lti: C must have shape \(directions=2, dim=6"):
        bidirectional_lti(**(arguments | {"C": arguments["C"][0]}))
    with pytest.raises(UserError, match="bidirectional_lti: impl must be one of auto, fft"):
        bidirectional_lti(**arguments, impl="cuda")
