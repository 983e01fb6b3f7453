"""The fused step of a diagonal time-invariant system; `test_lti.py` compares steps and convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lti_cases import cast, lti_arguments
from operator_cases import TOLERANCE, assert_all_close
from torch import Tensor
from torch.nn import functional as F
from triton_cases import DEVICE, INTERPRETED, implement_on_the_cpu, on_a_gpu_only, on_device

from seqmamba.errors import UserError
from seqmamba.ops import LtiSystem, lti_discretise, lti_state_step
from seqmamba.ops.dispatch import no_obstacle

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _kernels_of_a_gpu() -> Iterator[None]:
    if not INTERPRETED:
        yield
        return
    from seqmamba.ops.lti import step, triton_gpu_step

    library = implement_on_the_cpu(
        lti_state_step=triton_gpu_step.step, lti_state_step_in_place=triton_gpu_step.step_in_place
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "triton_obstacle", no_obstacle)
        patch.setattr(triton_gpu_step, "_ELEMENTS", 16)
        yield
    del library


def step_arguments(dtype: torch.dtype, *sizes: int, every: bool = True) -> dict[str, Tensor]:
    """State, input, the discrete system, C and with `every` D, where the kernels run."""
    a = lti_arguments(sizes[0], 1, *sizes[1:])
    system = lti_discretise(a["delta"], a["A"], a["B"])
    step = {"state": a["initial_state"], "transition": system.transition, "drive": system.drive, "C": a["C"]}
    step = {name: cast(x, torch.float32) for name, x in step.items()} | {"u": a["u"][:, 0].to(dtype)}
    return on_device(step | ({"D": a["D"].float()} if every else {}))


def run(arguments: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    given = dict(arguments)
    system = LtiSystem(given.pop("transition"), given.pop("drive"))
    y, state = lti_state_step(**given, system=system, **options)
    return {"y": y, "state": state}


def exactly(arguments: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    """The same by PyTorch in float64."""
    return run({name: cast(x, torch.float64) for name, x in arguments.items()}, **options)


def no_kernel(*arguments: Any) -> Any:
    raise AssertionError("the kernel was called")


@pytest.fixture
def without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqmamba.ops.lti import step

    monkeypatch.setattr(step, "lti_state_step_registered", no_kernel)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("sizes", [(2, 6, 5), (1, 1, 1), (3, 10, 32), (1, 4, 300), (2, 33, 3)])
def test_matches_float64(
    dtype: torch.dtype, activation: str | None, every: bool, sizes: tuple[int, ...]
) -> None:
    arguments = step_arguments(dtype, *sizes, every=every)
    before = arguments["state"].clone()
    # float64 tells the operator to take the way through PyTorch, in the tests of the interpreter too
    expected = exactly(arguments, activation=activation)
    actual = run(arguments, activation=activation)
    assert torch.equal(arguments["state"], before)
    assert (actual["y"].dtype, actual["state"].dtype) == (dtype, torch.complex64)
    assert_all_close(actual, expected, TOLERANCE[dtype])


def test_the_activation_is_the_exact_gelu_at_both_ends() -> None:
    arguments = step_arguments(torch.float32, 1, 9, 2)
    arguments["state"].zero_()
    arguments["drive"].zero_()
    arguments["D"] = torch.ones(9, device=DEVICE)
    u = torch.tensor([[-300.0, -9, -4, -1, 0, 1e-6, 1, 4, 300]], device=DEVICE)
    y = run(arguments | {"u": u}, activation="gelu")["y"]
    torch.testing.assert_close(y.double(), F.gelu(u.double()), check_dtype=False, atol=1e-6, rtol=1e-6)


def test_operands_that_lie_apart_or_wait_to_be_conjugated() -> None:
    arguments = step_arguments(torch.float32, 3, 6, 5)
    wanted = run(arguments)
    wide = torch.cat([arguments["u"], arguments["u"]], dim=-1)
    apart = {
        "u": wide[:, 6:],
        "state": arguments["state"].mT.contiguous().mT,
        "transition": arguments["transition"].mT.contiguous().mT,
        "C": arguments["C"].conj().resolve_conj().conj(),
    }
    for change in (*({name: x} for name, x in apart.items()), {"u": arguments["u"].mT.contiguous().mT}):
        for name, x in run(arguments | change).items():
            assert torch.equal(x, wanted[name])


@pytest.mark.usefixtures("without_the_kernel")
def test_what_the_kernel_does_not_know_takes_the_way_through_pytorch() -> None:
    arguments = step_arguments(torch.float32, 2, 6, 5)
    exact = exactly(arguments)
    for name in ("u", "state", "C", "D", "drive"):
        leaf = arguments[name].clone().requires_grad_()
        actual = run(arguments | {name: leaf})
        assert_all_close({key: x.detach() for key, x in actual.items()}, exact, 1e-5)
        (gradient,) = torch.autograd.grad(actual["y"].square().sum(), leaf)
        assert gradient.abs().sum() > 0
    with pytest.raises(AssertionError, match="the kernel was called"):
        run(arguments)
    wide = lti_arguments(2, 1, 2, 513)
    system = lti_discretise(wide["delta"], wide["A"], wide["B"], dtype=torch.float32)
    state, C = (wide[name].to(torch.complex64).to(DEVICE) for name in ("initial_state", "C"))
    system = LtiSystem(*(x.to(DEVICE) for x in system))
    lti_state_step(state, wide["u"][:, 0].float().to(DEVICE), system, C)
    dense = lti_arguments(2, 1, 6, 5, low_rank=True)
    system = lti_discretise(dense["delta"], dense["A"], dense["B"], P=dense["P"], dtype=torch.float32)
    system = LtiSystem(*(x.to(DEVICE) for x in system))
    lti_state_step(arguments["state"], arguments["u"], system, arguments["C"])


def test_a_transition_of_another_shape_is_named() -> None:
    arguments = step_arguments(torch.float32, 2, 6, 5)
    arguments["transition"] = arguments["transition"][:5]
    with pytest.raises(
        UserError, match=r"system.transition must have shape \(dim=6, state=5\), got \(5, 5\)"
    ):
        run(arguments)
    a = lti_arguments(2, 1, 6, 5, low_rank=True)
    system = lti_discretise(a["delta"], a["A"], a["B"], P=a["P"])
    wider = LtiSystem(torch.zeros(6, 12, 12, dtype=torch.float64), system.drive)
    with pytest.raises(UserError, match=r"system.transition must have shape .*=10.*, got \(6, 12, 12\)"):
        lti_state_step(a["initial_state"], a["u"][:, 0], wider, a["C"])
    with pytest.raises(UserError, match="activation must be None or \"gelu\", got 'silu'"):
        run(step_arguments(torch.float32, 2, 6, 5), activation="silu")


def test_the_registered_steps_pass_opcheck() -> None:
    a = step_arguments(torch.float32, 2, 6, 5)
    operands = tuple(a[name] for name in ("state", "u", "transition", "drive", "C", "D"))
    torch.library.opcheck(torch.ops.seqmamba.lti_state_step, (*operands, True))
    torch.library.opcheck(torch.ops.seqmamba.lti_state_step_in_place, (*operands, True))


@on_a_gpu_only
def test_a_cuda_graph_replays_the_step() -> None:
    arguments = step_arguments(torch.float32, 2, 64, 16)
    wanted = run(arguments, activation="gelu")
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        captured = run(arguments, activation="gelu")
    graph.replay()
    assert all(torch.equal(x, wanted[name]) for name, x in captured.items())
