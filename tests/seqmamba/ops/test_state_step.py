"""The fused step of the selective scan; `test_selective_scan.py` tests the step against the scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from operator_cases import TOLERANCE, assert_all_close, scan_arguments
from torch import Tensor
from triton_cases import DEVICE, INTERPRETED, implement_on_the_cpu, on_a_gpu_only, on_device

from seqmamba.ops import selective_state_step
from seqmamba.ops.decay import decay_rate
from seqmamba.ops.dispatch import no_obstacle

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _kernels_of_a_gpu() -> Iterator[None]:
    if not INTERPRETED:
        yield
        return
    from seqmamba.ops.selective_scan import step, triton_gpu_step

    library = implement_on_the_cpu(selective_state_step=triton_gpu_step.step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "triton_obstacle", no_obstacle)
        patch.setattr(triton_gpu_step, "_ELEMENTS", 16)
        yield
    del library


def step_arguments(dtype: torch.dtype, *sizes: int, every: bool = True) -> dict[str, Tensor]:
    arguments = scan_arguments(sizes[0], 1, *sizes[1:], every=True)
    state = arguments.pop("initial_state")
    step = {name: x[:, 0] if x.ndim >= 3 else x for name, x in arguments.items()}
    if not every:
        step = {name: x for name, x in step.items() if name not in ("D", "z", "delta_bias")}
        step["delta"] = step["delta"].abs() * 0.3  # a step size, without softplus
    return on_device({name: x.to(dtype) for name, x in step.items()} | {"state": state.float()})


def run(arguments: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    return dict(zip(("y", "state"), selective_state_step(**arguments, **options), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(
    "sizes", [(2, 6, 5, 1), (1, 1, 1, 1), (3, 10, 16, 2), (1, 4, 200, 4), (2, 33, 3, 11)]
)
def test_matches_float64(dtype: torch.dtype, every: bool, sizes: tuple[int, ...]) -> None:
    arguments = step_arguments(dtype, *sizes, every=every)
    before = arguments["state"].clone()
    expected = run({name: x.double().requires_grad_() for name, x in arguments.items()}, delta_softplus=every)
    actual = run(arguments, delta_softplus=every)
    assert torch.equal(arguments["state"], before)
    assert (actual["y"].dtype, actual["state"].dtype) == (dtype, torch.float32)
    assert_all_close(actual, {name: x.detach() for name, x in expected.items()}, TOLERANCE[dtype])


def test_parts_of_a_projection_and_extreme_steps() -> None:
    arguments = step_arguments(torch.float32, 3, 6, 5, 1)
    wide = torch.cat([arguments[name] for name in ("delta", "B", "C", "u", "z")], dim=-1)
    parts = dict(zip(("delta", "B", "C", "u", "z"), wide.split([6, 5, 5, 6, 6], dim=-1), strict=True))
    for name, x in run(arguments | parts, delta_softplus=True).items():
        assert torch.equal(x, run(arguments, delta_softplus=True)[name])
    arguments["delta"] = torch.tensor([-200.0, -40.0, -12.0, 0.0, 30.0, 200.0], device=DEVICE).expand(3, 6)
    exact = run({name: x.double().requires_grad_() for name, x in arguments.items()}, delta_softplus=True)
    actual = run(arguments, delta_softplus=True)
    assert_all_close(actual, {name: x.detach() for name, x in exact.items()}, TOLERANCE[torch.float32])


def test_a_logarithm_of_the_decay_rate() -> None:
    arguments = step_arguments(torch.float32, 3, 6, 5, 1)
    arguments["A"] = torch.linspace(-20, 60, 30, device=DEVICE).reshape(6, 5)
    wanted = run(arguments | {"A": decay_rate(arguments["A"])}, delta_softplus=True)
    for name, x in run(arguments, delta_softplus=True, A_is_log=True).items():
        torch.testing.assert_close(x, wanted[name])


def test_gradients_take_the_way_through_pytorch() -> None:
    arguments = step_arguments(torch.float32, 2, 6, 5, 1)
    wanted = run(arguments, delta_softplus=True)
    arguments["u"].requires_grad_()
    y, _ = selective_state_step(**arguments, delta_softplus=True)
    torch.testing.assert_close(y.detach(), wanted["y"])
    assert torch.autograd.grad(y.sum(), arguments["u"])[0].abs().sum() > 0


def test_the_registered_step_passes_opcheck() -> None:
    a = step_arguments(torch.float32, 2, 6, 5, 1)
    a["B"], a["C"] = a["B"][:, None], a["C"][:, None]
    names = ("state", "u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    torch.library.opcheck(torch.ops.seqmamba.selective_state_step, (*(a[name] for name in names), True))


@on_a_gpu_only
def test_a_cuda_graph_replays_the_step() -> None:
    arguments = step_arguments(torch.float32, 2, 64, 16, 1)
    wanted = run(arguments, delta_softplus=True)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        captured = run(arguments, delta_softplus=True)
    graph.replay()
    assert all(torch.equal(x, wanted[name]) for name, x in captured.items())
