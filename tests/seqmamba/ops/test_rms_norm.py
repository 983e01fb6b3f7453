from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from operator_cases import TOLERANCE, assert_all_close
from torch import Tensor
from triton_cases import (
    DEVICE,
    INTERPRETED,
    TRITON,
    implement_on_the_cpu,
    lift_obstacles,
    on_a_gpu_only,
)

from seqmamba.errors import UserError
from seqmamba.ops import rms_norm
from seqmamba.ops.rms_norm import api

HALF = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module", autouse=True)
def _kernels_of_a_gpu() -> Iterator[None]:
    """Interpreted, the kernels serve CPU tensors, in small tiles and several a program."""
    if not INTERPRETED:
        yield
        return
    from seqmamba.ops.rms_norm import triton_launch

    library = implement_on_the_cpu(
        rms_norm_forward=triton_launch.forward, rms_norm_backward=triton_launch.backward
    )
    with pytest.MonkeyPatch.context() as patch:
        lift_obstacles(patch, api)
        patch.setattr(triton_launch, "ELEMENTS", {"forward": 256, "backward": 128})
        patch.setattr(triton_launch, "PROGRAMS", {"forward": 2, "backward": 3})
        yield
    del library


def norm_arguments(*shape: int, residual: bool = True, device: str = DEVICE) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(shape[-1])

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    arguments = {"x": normal(*shape), "weight": normal(shape[-1])}
    arguments |= {"residual": normal(*shape)} if residual else {}
    return {name: x.to(device) for name, x in arguments.items()}


def with_gradients(arguments: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    leaves = {name: x.clone().requires_grad_() for name, x in arguments.items()}
    outputs = rms_norm(**leaves, eps=1e-3, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(7)
    seeds = [torch.randn(y.shape, dtype=torch.float64, generator=generator).bfloat16().to(y) for y in outputs]
    gradients = torch.autograd.grad(outputs, list(leaves.values()), seeds)
    assert all(grad.dtype == leaf.dtype for grad, leaf in zip(gradients, leaves.values(), strict=True))
    named = dict(zip((f"gradient of {name}" for name in leaves), gradients, strict=True))
    return {f"output {i}": y.detach() for i, y in enumerate(outputs)} | named


@pytest.mark.parametrize("impl", ["reference", TRITON])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 64), (3, 33), (37, 7), (4, 3), (5, 1, 300)])
def test_outputs_and_gradients_match_float64(
    impl: str, dtype: torch.dtype, residual: bool, shape: tuple[int, ...]
) -> None:
    arguments = norm_arguments(*shape, residual=residual, device=DEVICE if impl == "triton" else "cpu")
    given = {name: x.to(dtype if name == "x" else torch.float32) for name, x in arguments.items()}
    expected = with_gradients({name: x.double() for name, x in given.items()}, impl="reference")
    actual = with_gradients(given, impl=impl, dtype=dtype)
    assert actual["output 0"].dtype == dtype
    assert not residual or actual["output 1"].dtype == torch.float32
    assert_all_close(actual, expected, TOLERANCE[dtype])


@pytest.mark.gpu
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("residual_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
def test_mixed_dtypes(x_dtype: torch.dtype, residual_dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    dtypes = {"x": x_dtype, "residual": residual_dtype, "weight": weight_dtype}
    given = {name: x.to(dtypes[name]) for name, x in norm_arguments(9, 40).items()}
    expected = with_gradients({name: x.double() for name, x in given.items()}, impl="reference")
    actual = with_gradients(given, impl="triton")
    assert actual["output 0"].dtype == weight_dtype
    assert_all_close(actual, expected, TOLERANCE[torch.bfloat16])


@pytest.mark.gpu
def test_views_and_no_rows() -> None:
    a = {name: x.float() for name, x in norm_arguments(6, 10).items()}
    strided = {"x": a["x"].T.contiguous().T, "residual": a["residual"][:1].expand(6, 10)}
    expected = rms_norm(
        strided["x"].contiguous(), a["weight"], residual=strided["residual"], impl="reference"
    )
    for y, wanted in zip(rms_norm(weight=a["weight"], impl="triton", **strided), expected, strict=True):
        torch.testing.assert_close(y, wanted)
    nothing = torch.zeros(0, 10, device=DEVICE, requires_grad=True)
    y = rms_norm(nothing, a["weight"], impl="triton")
    y.sum().backward()
    assert nothing.grad is not None
    assert y.shape == nothing.grad.shape == (0, 10)


@pytest.mark.gpu
@pytest.mark.parametrize("residual", [False, True])
def test_the_registered_operators_pass_opcheck(residual: bool) -> None:
    a = {name: x.float() for name, x in norm_arguments(3, 4, 10, residual=residual).items()}
    forward, backward = torch.ops.seqmamba.rms_norm_forward, torch.ops.seqmamba.rms_norm_backward
    operands = (a["x"], a.get("residual"), a["weight"], 1e-5, torch.bfloat16)
    torch.library.opcheck(forward, operands)
    y, stream, scale = forward(*operands)
    whole = stream if residual else a["x"]
    for grad_stream in (None, whole) if residual else (None,):
        arguments = (y, grad_stream, whole, a["weight"], scale, torch.bfloat16, residual)
        torch.library.opcheck(backward, arguments)


@pytest.mark.gpu
@on_a_gpu_only
@pytest.mark.parametrize("dim", [64, 256, 1000, 1024, 4096, 5000, 8192])
def test_many_rows_match_and_repeat(dim: int) -> None:
    given = {name: x.float() for name, x in norm_arguments(2**23 // dim + 3, dim).items()}
    given["x"] = given["x"].bfloat16()
    actual = with_gradients(given, impl="triton", dtype=torch.bfloat16)
    again = with_gradients(given, impl="triton", dtype=torch.bfloat16)
    assert all(torch.equal(x, again[name]) for name, x in actual.items())
    expected = with_gradients({name: x.double() for name, x in given.items()}, impl="reference")
    assert_all_close(actual, expected, TOLERANCE[torch.bfloat16])


@pytest.mark.gpu
@on_a_gpu_only
def test_more_than_two_to_the_31_elements() -> None:
    rows, dim = 2**21 + 5, 1024 + 8
    x = torch.randn(rows, dim, dtype=torch.bfloat16, device="cuda").requires_grad_()
    weight = torch.randn(dim, device="cuda").requires_grad_()
    y = rms_norm(x, weight, dtype=torch.bfloat16, impl="triton")
    y.backward(y.detach())
    last = x.detach()[-7:].clone().requires_grad_()
    alone = rms_norm(last, weight, dtype=torch.bfloat16, impl="triton")
    alone.backward(alone.detach())
    assert x.grad is not None
    assert last.grad is not None
    torch.testing.assert_close(y[-7:], alone)
    torch.testing.assert_close(x.grad[-7:], last.grad)
    del x, y
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(7)}, r"weight must have shape \(dim=6\), got \(7,\)"),
        ({"residual": torch.zeros(6)}, r"residual must be shaped as x, \(2, 6\), got \(6,\)"),
        ({"x": torch.zeros(2, 0)}, "x must have at least one channel"),
        ({"dtype": torch.int32}, "dtype must be floating point"),
        ({"impl": "triton"}, "impl='triton' cannot run here: it runs on an NVIDIA GPU"),
        ({"impl": "fast"}, "impl must be one of auto, triton, reference, got 'fast'"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rms_norm(**({"x": torch.zeros(2, 6), "weight": torch.zeros(6)} | change))
