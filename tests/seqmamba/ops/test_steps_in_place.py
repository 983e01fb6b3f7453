"""Steps that write the new state over the old one: the same numbers in the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from lti_cases import cast, lti_arguments
from operator_cases import conv_arguments, scan_arguments
from ssd_cases import ssd_arguments
from torch import Tensor
from triton_cases import INTERPRETED, implement_on_the_cpu, on_a_gpu_only, on_device

from seqmamba.ops import (
    causal_conv1d_step,
    lti_discretise,
    lti_state_step,
    selective_state_step,
    ssd_state_step,
)
from seqmamba.ops.dispatch import no_obstacle
from seqmamba.ops.in_place import updating_states_in_place

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _kernels_of_a_gpu() -> Iterator[None]:
    if not INTERPRETED:
        yield
        return
    from seqmamba.ops.causal_conv1d import step as conv_step
    from seqmamba.ops.causal_conv1d import triton_launch
    from seqmamba.ops.lti import step as lti_step
    from seqmamba.ops.lti import triton_gpu_step as lti_kernel
    from seqmamba.ops.selective_scan import step as selective_step
    from seqmamba.ops.selective_scan import triton_gpu_step as selective_kernel
    from seqmamba.ops.ssd import step as ssd_step
    from seqmamba.ops.ssd import triton_gpu_step as ssd_kernel

    library = implement_on_the_cpu(
        causal_conv1d_step_in_place=triton_launch.step_in_place,
        lti_state_step=lti_kernel.step,
        lti_state_step_in_place=lti_kernel.step_in_place,
        selective_state_step=selective_kernel.step,
        selective_state_step_in_place=selective_kernel.step_in_place,
        ssd_step=ssd_kernel.step,
        ssd_step_in_place=ssd_kernel.step_in_place,
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (conv_step, lti_step, selective_step, ssd_step):
            patch.setattr(module, "triton_obstacle", no_obstacle)
        for kernel in (lti_kernel, selective_kernel, ssd_kernel):
            patch.setattr(kernel, "_ELEMENTS", 16)  # several tiles a channel and several programs
        yield
    del library


class Case(NamedTuple):
    step: Callable[..., tuple[Tensor, Tensor]]
    state: Tensor
    inputs: dict[str, Any]
    options: dict[str, Any]


def convolution(dtype: torch.dtype, width: int = 4, dim: int = 70) -> Case:
    a = on_device(conv_arguments(3, 1, dim, width))
    state = a.pop("initial_state").float()
    inputs = {"x": a["x"][:, 0].to(dtype), "weight": a["weight"].float(), "bias": a["bias"].float()}
    return Case(causal_conv1d_step, state, inputs, {"activation": "silu"})


def selective(dtype: torch.dtype) -> Case:
    a = on_device(scan_arguments(3, 1, 7, 5))
    state = a.pop("initial_state").float()
    inputs = {name: (x[:, 0] if x.ndim == 3 else x).to(dtype) for name, x in a.items()}
    return Case(selective_state_step, state, inputs, {"delta_softplus": True})


def dual(dtype: torch.dtype) -> Case:
    a = on_device(ssd_arguments(2, 1, 2, 3, 3, 1))
    state = a.pop("initial_state").float()
    inputs = {
        name: (x[:, 0] if name not in ("A", "D", "delta_bias") else x).to(dtype) for name, x in a.items()
    }
    return Case(ssd_state_step, state, inputs, {"delta_softplus": True})


def invariant(dtype: torch.dtype) -> Case:
    a = lti_arguments(3, 1, 7, 5)
    system = lti_discretise(a["delta"], a["A"], a["B"], dtype=torch.float32)
    a = on_device({name: cast(x, torch.float32) for name, x in a.items()} | system._asdict())
    system = system._replace(transition=a["transition"], drive=a["drive"])
    inputs = {"u": a["u"][:, 0].to(dtype), "system": system, "C": a["C"], "D": a["D"]}
    return Case(lti_state_step, a["initial_state"], inputs, {"activation": "gelu"})


CASES = {"convolution": convolution, "selective": selective, "dual": dual, "invariant": invariant}
each_step = pytest.mark.parametrize("name", CASES)


@each_step
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_steps_in_place_are_the_steps(name: str, dtype: torch.dtype) -> None:
    step, state, inputs, options = CASES[name](dtype)
    expected_state, kept = state.clone(), state.clone()
    for _ in range(2):
        expected, expected_state = step(expected_state, **inputs, **options)
        with updating_states_in_place():
            y, after = step(state, **inputs, **options)
        assert after is state
        # exact within one way of computing: on the CPU the convolution's step is PyTorch
        torch.testing.assert_close(y, expected, atol=2e-3 if dtype == torch.float16 else 1e-5, rtol=1e-3)
        torch.testing.assert_close(after, expected_state, atol=1e-6, rtol=1e-6)
    assert not torch.equal(state, kept)


@pytest.mark.parametrize("width", [1, 2, 3, 6])
@pytest.mark.parametrize("dim", [1, 5, 300])
def test_a_convolution_of_any_width_shifts_its_own_window(width: int, dim: int) -> None:
    step, state, inputs, options = convolution(torch.float32, width, dim)
    wanted = torch.cat((state, inputs["x"][:, None]), dim=1)[:, 1:]
    expected, _ = step(state.clone(), **inputs, **options)
    with updating_states_in_place():
        y, after = step(state, **inputs, **options)
    assert after is state
    assert torch.equal(after, wanted)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


@each_step
def test_what_cannot_be_in_place_is_a_step_as_ever(name: str) -> None:
    """Where gradients are asked for, in float64, where the state's channels lie apart, outside the block."""
    step, state, inputs, options = CASES[name](torch.float32)
    apart = state.mT.contiguous().mT
    wide = {key: x.double() for key, x in inputs.items() if isinstance(x, Tensor) and not x.is_complex()}
    name_of_input = "u" if "u" in inputs else "x"
    leaf = {name_of_input: inputs[name_of_input].clone().requires_grad_()}
    expected = step(state.clone(), **inputs, **options)
    with updating_states_in_place():
        results = [step(apart, **inputs, **options)]
        if not INTERPRETED:  # there, nothing stands in the way of the kernels
            results.append(
                step(state.double() if not state.is_complex() else state, **inputs | wide, **options)
            )
        results.append(step(state, **inputs | leaf, **options))
    results.append(step(state, **inputs, **options))
    for y, after in results:
        assert after.data_ptr() not in (state.data_ptr(), apart.data_ptr())
        torch.testing.assert_close(y, expected[0], check_dtype=False, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(after, expected[1], check_dtype=False, atol=1e-5, rtol=1e-4)
    assert torch.equal(state, CASES[name](torch.float32).state)


def test_the_block_ends_with_itself_and_with_a_failure() -> None:
    step, state, inputs, options = selective(torch.float32)
    with pytest.raises(ValueError, match="broken"), updating_states_in_place():
        raise ValueError("broken")
    assert step(state, **inputs, **options)[1] is not state


def test_the_operators_pass_opcheck() -> None:
    operators = torch.ops.seqmamba
    _, state, a, _ = convolution(torch.float32)
    torch.library.opcheck(
        operators.causal_conv1d_step_in_place, (state, a["x"], a["weight"], a["bias"], True)
    )
    names = ("delta", "A", "B", "C", "D", "z", "delta_bias")
    for case, first, operator in (
        (selective(torch.float32), "u", operators.selective_state_step_in_place),
        (dual(torch.float32), "x", operators.ssd_step_in_place),
    ):
        a = case.inputs | {
            key: x if x.ndim == 3 else x[:, None] for key, x in case.inputs.items() if key in "BC"
        }
        torch.library.opcheck(operator, (case.state, a[first], *(a[name] for name in names), True))


@on_a_gpu_only
@each_step
def test_a_cuda_graph_advances_the_state_where_it_is(name: str) -> None:
    step, state, inputs, options = CASES[name](torch.float32)
    expected = state.clone()
    step(state, **inputs, **options)  # compiles
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.inference_mode(), updating_states_in_place(), torch.cuda.graph(graph):
        y, _ = step(state, **inputs, **options)
    for _ in range(3):
        graph.replay()
        wanted, expected = step(expected, **inputs, **options)
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(state, expected)
