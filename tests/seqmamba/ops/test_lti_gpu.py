"""The time-invariant operators on an NVIDIA GPU, against the float64 recurrence on the CPU."""

from __future__ import annotations

import pytest
import torch
from lti_cases import LTI_TOLERANCE, cast, lti_arguments, rounded, run_lti
from operator_cases import assert_all_close, some_resets

from seqmamba.ops import bidirectional_lti, lti

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("impl", ["fft", "chunked"])
@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_outputs_and_gradients(
    impl: str, low_rank: bool, reverse: bool, packed: bool, dtype: torch.dtype
) -> None:
    arguments = lti_arguments(length=150, low_rank=low_rank)
    reset = some_resets(2, 150) if packed else None
    expected = run_lti(
        lti, rounded(arguments, dtype), torch.float64, impl="reference", reverse=reverse, reset=reset
    )
    there = {name: x.cuda() for name, x in arguments.items()}
    reset = None if reset is None else reset.cuda()
    actual = run_lti(lti, there, dtype, impl=impl, reverse=reverse, reset=reset)
    assert_all_close({name: x.cpu() for name, x in actual.items()}, expected, LTI_TOLERANCE[dtype])


@pytest.mark.parametrize("impl", ["fft", "chunked"])
def test_both_directions_at_a_million_steps(impl: str) -> None:
    """The two implementations share the kernel's ends only; they agree over the whole length."""
    a = {name: cast(x, torch.float32).cuda() for name, x in lti_arguments(1, 1 << 20, 8, 32).items()}
    del a["initial_state"]
    a["C"] = torch.stack((a["C"], a["B"]))
    y = bidirectional_lti(**a, impl=impl)
    wide = {name: cast(x, torch.float64) for name, x in a.items()}
    other = "chunked" if impl == "fft" else "fft"
    assert_all_close({"y": y}, {"y": bidirectional_lti(**wide, impl=other)}, LTI_TOLERANCE[torch.float32])
