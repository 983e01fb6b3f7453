"""The scans in what only a GPU shows: repeatable bits, CUDA graphs, devices, sizes past 2^31, its fakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from operator_cases import assert_all_close, scan_arguments, some_resets
from scan_cases import scan_of_views
from torch import Tensor

from seqmamba.ops import bidirectional_scan, explain, selective_scan

pytestmark = pytest.mark.gpu
FLOAT, BFLOAT = torch.float32, torch.bfloat16


def leaves_of(
    batch: int, length: int, dim: int, state: int, dtype: torch.dtype, device: str = "cuda"
) -> dict[str, Tensor]:
    arguments = scan_arguments(batch, length, dim, state)
    return {name: x.to(device, dtype).requires_grad_() for name, x in arguments.items()}


def one_scan(leaves: dict[str, Tensor]) -> Tensor:
    y, final = selective_scan(**leaves, delta_softplus=True, return_final_state=True, impl="cuda")
    return y.float().square().sum() + final.sum()


def two_scans(leaves: dict[str, Tensor]) -> Tensor:
    pairs = {name: (x, x) for name, x in leaves.items() if name not in ("z", "initial_state")}
    y = bidirectional_scan(**pairs, z=leaves["z"], delta_softplus=True, impl="cuda")
    return y.float().square().sum() + leaves["initial_state"].sum()


def gradients(loss: Callable[[dict[str, Tensor]], Tensor], leaves: dict[str, Tensor]) -> list[Tensor]:
    value = loss(leaves)
    return [value.detach(), *torch.autograd.grad(value, list(leaves.values()))]


LOSSES = pytest.mark.parametrize("loss", [one_scan, two_scans])


def test_the_kernels_are_what_a_gpu_gets() -> None:
    u = torch.zeros(1, 1, 1, device="cuda")
    assert explain("selective_scan", u=u).chosen == "cuda"
    assert explain("bidirectional_scan", u=(u, u)).chosen == "cuda"


@LOSSES
@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT])
@pytest.mark.parametrize(("batch", "length", "dim"), [(1, 20_000, 200), (64, 500, 512)])
def test_every_run_gives_the_same_bits(
    loss: Callable[..., Tensor], dtype: torch.dtype, batch: int, length: int, dim: int
) -> None:
    leaves = leaves_of(batch, length, dim, 16, dtype)
    first = gradients(loss, leaves)
    for _ in range(5):
        for one, other in zip(first, gradients(loss, leaves), strict=True):
            assert torch.equal(one, other)


@LOSSES
@pytest.mark.parametrize("length", [100, 20_000])
def test_a_cuda_graph_replays_forward_and_backward(loss: Callable[..., Tensor], length: int) -> None:
    leaves = leaves_of(2, length, 200, 16, BFLOAT)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        gradients(loss, leaves)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(loss, leaves)
    with torch.no_grad():  # other values in the captured tensors
        for x in leaves.values():
            x.copy_(x.flip(0) if x.ndim < 3 else x.flip(1))
    graph.replay()
    for one, other in zip(captured, gradients(loss, leaves), strict=True):
        assert torch.equal(one, other)


@LOSSES
def test_on_a_stream_of_the_caller(loss: Callable[..., Tensor]) -> None:
    leaves = leaves_of(2, 5000, 200, 16, FLOAT)
    wanted = gradients(loss, leaves)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = gradients(loss, leaves)
    torch.cuda.current_stream().wait_stream(stream)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@LOSSES
def test_on_a_device_that_is_not_the_current_one(loss: Callable[..., Tensor]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    wanted = gradients(loss, leaves_of(2, 5000, 200, 16, FLOAT))
    found = gradients(loss, leaves_of(2, 5000, 200, 16, FLOAT, "cuda:1"))
    assert torch.cuda.current_device() == 0
    for one, other in zip(found, wanted, strict=True):
        assert one.device.index == 1
        assert torch.equal(one.cpu(), other.cpu())


@pytest.mark.parametrize(("batch", "length", "dim", "state"), [(1, 2**22 + 7, 520, 4), (3, 2**21, 512, 4)])
@pytest.mark.parametrize("reverse", [False, True])
def test_more_than_two_to_the_31_elements(
    batch: int, length: int, dim: int, state: int, reverse: bool
) -> None:
    """Both ends of a scan past 2^31 elements equal scans of those ends alone, once the rest is forgotten."""
    if torch.cuda.get_device_properties(0).total_memory < 120e9:
        pytest.skip("needs 100 GB")
    torch.cuda.reset_peak_memory_stats()
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", dtype=BFLOAT, generator=generator)

    a = {
        "u": normal(batch, length, dim),
        "delta": normal(batch, length, dim).sub_(2),
        "A": -torch.rand(dim, state, device="cuda") - 0.1,
        "B": normal(batch, length, state),
        "C": normal(batch, length, state),
    }
    assert a["u"].numel() > 2**31
    options: dict[str, Any] = {
        "delta_softplus": True,
        "reverse": reverse,
        "return_final_state": True,
        "impl": "cuda",
    }
    sequences = ("u", "delta", "B", "C")
    leaves = {name: x.requires_grad_() for name, x in a.items()}
    y, final = selective_scan(**leaves, **options)
    seed = torch.zeros_like(y)
    window = 4000
    ends = [slice(0, window), slice(length - window, length)]
    seed_values = normal(batch, window, dim)
    for end in ends:
        seed[:, end] = seed_values
    y_ends = [y[:, end].detach().clone() for end in ends]
    final = final.detach()
    grads = dict(zip(sequences, torch.autograd.grad(y, [leaves[n] for n in sequences], seed), strict=True))
    grad_ends = [{name: x[:, end].clone() for name, x in grads.items()} for end in ends]
    del y, grads, seed
    # A few thousand steps forget everything: what enters a window is not seen behind its first half, and the
    # last half of its gradients does not see what leaves it.
    half = window // 2
    for end, y_end, grad_end in zip(ends, y_ends, grad_ends, strict=True):
        alone = {
            name: (x[:, end] if name in sequences else x).detach().clone().requires_grad_()
            for name, x in leaves.items()
        }
        y_alone, final_alone = selective_scan(**alone, **options)
        last = end is ends[0] if reverse else end is ends[1]
        if last:
            assert_all_close({"final": final}, {"final": final_alone.detach()}, 1e-4)
        found = torch.autograd.grad(y_alone, [alone[n] for n in sequences], seed_values)
        clean = slice(0, half) if reverse else slice(half, window)
        assert_all_close({"y": y_end[:, clean]}, {"y": y_alone.detach()[:, clean]}, 1e-2)
        seen = slice(half // 2, half + half // 2)
        for name, gradient in zip(sequences, found, strict=True):
            assert_all_close({name: grad_end[name][:, seen]}, {name: gradient[:, seen]}, 1.2e-2)
    assert torch.cuda.max_memory_allocated() < 100e9


@pytest.mark.parametrize("reverse", [False, True])
def test_one_graph_serves_every_length(reverse: bool) -> None:
    def model(reset: Tensor | None, **arguments: Tensor) -> Tensor:
        options = {"delta_softplus": True, "return_final_state": True, "reverse": reverse, "reset": reset}
        y, final = scan_of_views(**arguments, **options)
        return y.square().sum() + final.sum()

    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (37, 50, 640):
            reset = some_resets(2, length).cuda()
            leaves = leaves_of(2, length, 34, 4, FLOAT)
            for found, wanted in zip(
                gradients(lambda given, mask=reset: compiled(mask, **given), leaves),
                gradients(lambda given, mask=reset: model(mask, **given), leaves),
                strict=True,
            ):
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("every", [False, True])
def test_the_registered_scan_passes_opcheck_on_a_gpu(every: bool) -> None:
    a: dict[str, Any] = {name: x.float().cuda() for name, x in scan_arguments(every=every).items()}
    a["B"], a["C"] = a["B"][:, :, None], a["C"][:, :, None]
    reset = some_resets(2, 37).cuda() if every else None
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
    operands = tuple(a.get(name) for name in names)
    forward = torch.ops.seqmamba.selective_scan_forward
    torch.library.opcheck(forward, (*operands, reset, True, False, True))
    y, final, saved = forward(*operands, reset, True, False, True)
    backward = torch.ops.seqmamba.selective_scan_backward
    torch.library.opcheck(backward, (y.clone(), final, y, saved, *operands[:8], reset, True, False))
