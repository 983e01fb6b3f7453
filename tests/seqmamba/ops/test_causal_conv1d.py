from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from operator_cases import (
    TOLERANCE,
    assert_all_close,
    conv_arguments,
    rounded,
    run_with_gradients,
    some_resets,
)
from triton_cases import INTERPRETED, TRITON, lift_obstacles, on_a_gpu_only

from seqmamba.errors import UserError
from seqmamba.ops import causal_conv1d
from seqmamba.ops.causal_conv1d import api

IMPLEMENTATIONS = ("reference", "chunked", "numba", TRITON)
FAST_IN = [
    ("chunked", torch.float64),
    ("chunked", torch.bfloat16),
    ("numba", torch.float32),
    ("numba", torch.bfloat16),
    ("numba", torch.float16),
    pytest.param("triton", torch.float32, marks=pytest.mark.gpu),
    pytest.param("triton", torch.bfloat16, marks=pytest.mark.gpu),
    pytest.param("triton", torch.float16, marks=pytest.mark.gpu),
]


@pytest.fixture(autouse=True)
def _kernels_of_a_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where the kernels are tested: on a GPU with all tensors there, or interpreted in place of numba's.

    Interpreted, tiles are small, so that few steps cross many borders.
    """
    if request.node.get_closest_marker("gpu") is None:
        yield
    elif INTERPRETED:
        from seqmamba.ops.causal_conv1d import numba_cpu, triton_launch
        from seqmamba.ops.causal_conv1d.triton_launch import Tiling

        lift_obstacles(monkeypatch, api)
        monkeypatch.setattr(numba_cpu, "forward", triton_launch.forward)
        monkeypatch.setattr(numba_cpu, "backward", triton_launch.backward)
        small = lambda *shape: Tiling(4, 8 if shape[3] < 10 else 64, 2, 2, 1, None)  # noqa: E731
        monkeypatch.setattr(triton_launch, "choose_tiling", small)
        yield
    else:
        with torch.device("cuda"), torch.backends.cudnn.flags(allow_tf32=False):
            yield


@pytest.mark.parametrize(("impl", "dtype"), FAST_IN)
@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 4), (37, 4), (37, 1), (70, 8)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_and_gradients_match_the_float64_reference(
    impl: str, dtype: torch.dtype, length: int, width: int, reverse: bool, packed: bool
) -> None:
    if INTERPRETED and dtype != torch.float32 and (length, width) != (37, 4):
        pytest.skip("slow in the interpreter, and differs from float32 by its rounding alone")
    arguments = conv_arguments(2, length, 6, width)
    reset = some_resets(2, length) if packed else None
    options = {"activation": "silu", "reverse": reverse, "reset": reset}
    actual = run_with_gradients(causal_conv1d, arguments, dtype, impl=impl, **options)
    reference = run_with_gradients(
        causal_conv1d, rounded(arguments, dtype), torch.float64, impl="reference", **options
    )
    assert_all_close(actual, reference, TOLERANCE[dtype])
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("dim", [1, 70, 130])
def test_matches_the_convolution_of_pytorch(impl: str, dim: int) -> None:
    arguments = {name: x.float() for name, x in conv_arguments(2, 37, dim).items()}
    x, weight, bias = arguments["x"], arguments["weight"], arguments["bias"]
    wanted = F.conv1d(x.transpose(1, 2), weight[:, None], bias, padding=3, groups=dim)[..., :37].transpose(
        1, 2
    )
    torch.testing.assert_close(causal_conv1d(x, weight, bias, impl=impl), wanted, rtol=1e-5, atol=1e-5)
    without_bias = causal_conv1d(x, weight, impl=impl)
    torch.testing.assert_close(without_bias, wanted - bias, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_reference_pass_gradcheck() -> None:
    arguments = {name: x.requires_grad_() for name, x in conv_arguments(1, 5, 2, 3).items()}
    reset = torch.tensor([[False, False, True, False, False]])

    def operator(*tensors: torch.Tensor) -> object:
        named = dict(zip(arguments, tensors, strict=True))
        return causal_conv1d(
            **named, activation="silu", reset=reset, return_final_state=True, impl="reference"
        )

    assert torch.autograd.gradcheck(operator, tuple(arguments.values()))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_equal_separate_runs(impl: str, reverse: bool) -> None:
    arguments = {name: x.float() for name, x in conv_arguments(1, 40, 3).items()}
    arguments.pop("initial_state")
    x, bounds = arguments.pop("x"), [0, 1, 3, 30, 40]
    reset = torch.zeros(1, 40, dtype=torch.bool)
    reset[0, bounds[:-1]] = True
    options = {"reverse": reverse, "impl": impl, "return_final_state": True}
    y, final = causal_conv1d(x, **arguments, reset=reset, **options)
    for start, stop in pairwise(bounds):
        y_alone, final_alone = causal_conv1d(x[:, start:stop], **arguments, **options)
        torch.testing.assert_close(y[:, start:stop], y_alone)
        if (start == 0) if reverse else (stop == 40):
            torch.testing.assert_close(final, final_alone)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_anywhere_equals_the_whole(impl: str, reverse: bool, packed: bool) -> None:
    length = 20
    arguments = {name: x.float() for name, x in conv_arguments(2, length, 3).items()}
    x, initial = arguments.pop("x"), arguments.pop("initial_state")
    reset = torch.zeros(2, length, dtype=torch.bool)
    if packed:
        reset[0, 6] = reset[1, 13] = True
    options = {"reverse": reverse, "impl": impl, "return_final_state": True}
    whole, final = causal_conv1d(x, **arguments, initial_state=initial, reset=reset, **options)
    for cut in (1, 2, 7, 9, 14, 19):
        parts = [slice(0, cut), slice(cut, length)]
        state, pieces = initial, []
        for part in reversed(parts) if reverse else parts:
            y, state = causal_conv1d(
                x[:, part], **arguments, initial_state=state, reset=reset[:, part], **options
            )
            pieces.append(y)
        torch.testing.assert_close(torch.cat(pieces[::-1] if reverse else pieces, dim=1), whole)
        torch.testing.assert_close(state, final)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_reverse_equals_flipping(impl: str) -> None:
    arguments = {name: x.float() for name, x in conv_arguments().items()}
    flipped = arguments | {"x": arguments["x"].flip(1)}
    y, final = causal_conv1d(**arguments, reverse=True, return_final_state=True, impl=impl)
    y_flipped, final_flipped = causal_conv1d(**flipped, return_final_state=True, impl=impl)
    torch.testing.assert_close(y, y_flipped.flip(1))
    torch.testing.assert_close(final, final_flipped)


@pytest.mark.parametrize("impl", ["numba", TRITON])
@pytest.mark.parametrize("reverse", [False, True])
def test_parts_of_a_projection_need_no_copy(impl: str, reverse: bool) -> None:
    arguments = {name: x.float() for name, x in conv_arguments(2, 21, 6).items()}
    projected = torch.cat([arguments["x"], arguments["x"] + 1], dim=-1)
    options = {"activation": "silu", "reverse": reverse, "impl": impl}
    leaf = projected.clone().requires_grad_()
    weight, bias, state = (arguments[name] for name in ("weight", "bias", "initial_state"))
    y = causal_conv1d(leaf.chunk(2, dim=-1)[0], weight, bias, initial_state=state, **options)
    wide = torch.cat([torch.ones_like(y), y.detach()], dim=-1)
    y.backward(wide.chunk(2, dim=-1)[1])  # the gradient is a part, too
    again = arguments["x"].clone().requires_grad_()
    whole = causal_conv1d(again, weight, bias, initial_state=state, **options)
    torch.testing.assert_close(y, whole)
    whole.backward(y.detach())
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad.chunk(2, dim=-1)[0], again.grad)


@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
def test_a_gradient_adds_to_another(reverse: bool) -> None:
    from seqmamba.ops.causal_conv1d.triton_launch import backward

    arguments = {name: x.float() for name, x in conv_arguments(2, 37, 6).items()}
    x, weight, bias = (arguments[name] for name in ("x", "weight", "bias"))
    final = x.new_zeros(2, weight.shape[1] - 1, 6)
    operands = (torch.randn_like(x), final, x, weight, bias, None, None, True, reverse)
    expected, *others = backward(*operands)
    before = torch.randn_like(x)
    actual = before.clone()
    given, *same = backward(*operands, add_to=actual)
    assert given is actual
    torch.testing.assert_close(actual, before + expected)
    for one, other in zip(same[:2], others[:2], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("impl", ["numba", TRITON])
def test_a_bias_may_lie_apart(impl: str) -> None:
    x, weight, bias = torch.randn(2, 5, 6), torch.randn(6, 4), torch.full((6, 3), torch.nan)
    bias[:, 1] = torch.randn(6)
    spread = bias[:, 1].requires_grad_()
    dense = spread.detach().clone().requires_grad_()
    results = [causal_conv1d(x, weight, b, activation="silu", impl=impl) for b in (spread, dense)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(
        *(torch.autograd.grad(y.sum(), b)[0] for y, b in zip(results, (spread, dense), strict=True))
    )


@pytest.mark.gpu
@on_a_gpu_only
@pytest.mark.parametrize("dim", [256, 384, 1000, 2048])
@pytest.mark.parametrize("reverse", [False, True])
def test_long_sequences_match_and_repeat(dim: int, reverse: bool) -> None:
    arguments = conv_arguments(2, 5003, dim)
    options = {"activation": "silu", "reverse": reverse}
    runs = [
        run_with_gradients(causal_conv1d, arguments, torch.bfloat16, impl="triton", **options)
        for _ in range(2)
    ]
    assert all(torch.equal(x, runs[1][name]) for name, x in runs[0].items())
    expected = run_with_gradients(
        causal_conv1d, rounded(arguments, torch.bfloat16), torch.float64, impl="chunked", **options
    )
    assert_all_close(runs[0], expected, TOLERANCE[torch.bfloat16])


@pytest.mark.gpu
@on_a_gpu_only
def test_more_than_two_to_the_31_elements() -> None:
    length, dim = 2**20 + 77, 2048 + 64
    assert length * dim > 2**31
    x = torch.randn(1, length, dim, dtype=torch.bfloat16).requires_grad_()
    weight, bias = torch.randn(dim, 4).requires_grad_(), torch.randn(dim).requires_grad_()
    y, final = causal_conv1d(x, weight, bias, activation="silu", return_final_state=True, impl="triton")
    y.backward(y.detach())
    last = x.detach()[:, -100:].clone().requires_grad_()
    alone = causal_conv1d(last, weight, bias, activation="silu", impl="triton")
    alone.backward(alone.detach())
    assert x.grad is not None
    assert last.grad is not None
    torch.testing.assert_close(y[:, -90:], alone[:, -90:])
    torch.testing.assert_close(x.grad[:, -90:], last.grad[:, -90:])
    torch.testing.assert_close(final, x.detach()[:, -3:].float())
    del x, y
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.gpu
@on_a_gpu_only
def test_a_cuda_graph_replays_training() -> None:
    a = {name: x.float().requires_grad_() for name, x in conv_arguments(2, 300, 64).items()}

    def step() -> tuple[torch.Tensor, ...]:
        y, final = causal_conv1d(**a, activation="silu", return_final_state=True, impl="triton")
        return torch.autograd.grad(y.sum() + final.sum(), list(a.values()))

    wanted, stream = step(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    assert all(torch.equal(x, other) for x, other in zip(captured, wanted, strict=True))


def test_numba_results_do_not_depend_on_the_number_of_threads() -> None:
    arguments, threads, results = conv_arguments(3, 70, 130), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(
                run_with_gradients(causal_conv1d, arguments, torch.float32, activation="silu", impl="numba")
            )
    finally:
        torch.set_num_threads(threads)
    for name, first in results[0].items():
        assert all(torch.equal(first, other[name]) for other in results[1:]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(7, 4)}, r"weight must have shape \(dim=6, width=4\), got \(7, 4\)"),
        ({"bias": torch.zeros(7)}, r"bias must have shape \(dim=6\), got \(7,\)"),
        (
            {"initial_state": torch.zeros(2, 4, 6)},
            r"initial_state must have shape \(batch=2, width-1=3, dim=6\)",
        ),
        ({"activation": "relu"}, "activation must be None or \"silu\", got 'relu'"),
        ({"x": torch.zeros(2, 0, 6)}, "x must have a length of at least 1"),
        ({"reset": torch.zeros(2, 36, dtype=torch.bool)}, "reset must have shape"),
        (
            {"impl": "fast"},
            "impl must be one of auto, triton, numba, chunked, reference, causal_conv1d, got 'fast'",
        ),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    arguments = {name: x.float() for name, x in conv_arguments().items()}
    with pytest.raises(UserError, match=message):
        causal_conv1d(**(arguments | change))
