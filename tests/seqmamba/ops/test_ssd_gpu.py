"""The Triton kernels of ssd: on a GPU, or with TRITON_INTERPRET=1 in Triton's interpreter on the CPU.

`test_ssd.py` runs this file in the interpreter. There, tiles are small and segments short, so that few steps
cross many borders; on a GPU the tiles are those of real use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from operator_cases import TOLERANCE, assert_all_close, rounded, run_with_gradients, some_resets
from ssd_cases import ssd_arguments, steps_of
from torch import Tensor
from triton_cases import DEVICE, INTERPRETED, implement_on_the_cpu, lift_obstacles, on_a_gpu_only, on_device

from seqmamba.errors import UserError
from seqmamba.ops import ssd, ssd_state_step
from seqmamba.ops.decay import LARGEST_LOG_RATE, decay_rate
from seqmamba.ops.dispatch import no_obstacle
from seqmamba.ops.ssd import api, registration, tiles
from seqmamba.ops.ssd import step as step_module

pytestmark = pytest.mark.gpu
LENGTHS = (37,) if INTERPRETED else (1, 63, 64, 65, 700)
# the interpreter multiplies bfloat16 as if it were integers
DTYPES = [torch.float32, torch.float16] if INTERPRETED else [torch.float32, torch.float16, torch.bfloat16]
# float32 products are three of tf32, sums of decays two float32
ROUNDING = TOLERANCE | {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


@pytest.fixture(scope="module", autouse=True)
def _kernels_on_the_cpu() -> Iterator[None]:
    if not INTERPRETED:
        yield
        return
    from seqmamba.ops.ssd import triton_gpu, triton_gpu_step

    library = implement_on_the_cpu(
        ssd_forward=triton_gpu.forward, ssd_backward=triton_gpu.backward, ssd_step=triton_gpu_step.step
    )
    patch = pytest.MonkeyPatch()
    for name in ("output_tiles", "replay_tiles", "walk_tiles", "gradient_tiles"):
        chosen = getattr(tiles, name)
        patch.setattr(tiles, name, lambda *shape, f=chosen: replace(f(*shape), block=16, channels=16))
    patch.setattr(tiles, "block_size", lambda dtype: 16)
    patch.setattr(tiles, "segment_blocks", lambda walks, blocks, multiprocessors: min(2, blocks))
    patch.setattr(step_module, "triton_obstacle", no_obstacle)
    lift_obstacles(patch, api)
    yield
    patch.undo()
    del library  # held until here: its implementations go with it


def compare(arguments: dict[str, Tensor], dtype: torch.dtype, **options: Any) -> dict[str, Tensor]:
    arguments = on_device(arguments)
    actual = run_with_gradients(ssd, arguments, dtype, impl="triton", **options)
    expected = run_with_gradients(ssd, rounded(arguments, dtype), torch.float64, impl="chunked", **options)
    assert_all_close(actual, expected, ROUNDING[dtype])
    return actual


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_and_gradients_match_float64(
    dtype: torch.dtype, length: int, reverse: bool, packed: bool
) -> None:
    reset = some_resets(2, length).to(DEVICE) if packed else None
    actual = compare(ssd_arguments(length=length), dtype, delta_softplus=True, reverse=reverse, reset=reset)
    assert actual["y"].dtype == dtype
    assert actual["final state"].dtype == torch.float32


@pytest.mark.parametrize(
    ("batch", "heads", "head_dim", "state", "groups"),
    [(1, 1, 1, 1, 1), (1, 3, 17, 17, 3), (3, 2, 16, 16, 1)]
    if INTERPRETED
    else [(1, 1, 1, 1, 1), (1, 6, 33, 17, 3), (3, 12, 64, 64, 1), (2, 4, 64, 128, 2), (1, 2, 256, 256, 1)],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_that_do_and_do_not_fill_a_tile(
    batch: int, heads: int, head_dim: int, state: int, groups: int, dtype: torch.dtype
) -> None:
    length = 17 if INTERPRETED else 300
    arguments = ssd_arguments(batch, length, heads, head_dim, state, groups, wide_skip=batch == 1)
    compare(arguments, dtype, delta_softplus=True)


def test_without_the_optional_arguments() -> None:
    compare(ssd_arguments(every=False), torch.float32)


def test_heads_of_a_group_in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "head_splits", lambda programs, heads, multiprocessors: heads)
    compare(ssd_arguments(1, 20, 6), torch.float32, delta_softplus=True)


def test_one_segment_equals_many(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = on_device({name: x.float() for name, x in ssd_arguments(1, 90, 2).items()})
    options = {"delta_softplus": True, "impl": "triton"}
    many = run_with_gradients(ssd, arguments, torch.float32, **options)
    monkeypatch.setattr(tiles, "segment_blocks", lambda walks, blocks, multiprocessors: blocks)
    assert_all_close(many, run_with_gradients(ssd, arguments, torch.float32, **options), 1e-5)


def test_a_gradient_of_one_output_only() -> None:
    arguments = on_device({name: x.float().requires_grad_() for name, x in ssd_arguments(1, 20, 2).items()})
    leaves = list(arguments.values())
    for index in (0, 1):
        got, wanted = (
            torch.autograd.grad(
                ssd(**arguments, delta_softplus=True, return_final_state=True, impl=impl)[index].sum(),
                leaves,
                allow_unused=True,
            )
            for impl in ("triton", "chunked")
        )
        for actual, expected in zip(got, wanted, strict=True):
            if expected is not None:
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_repeated_runs_agree_to_the_bit() -> None:
    arguments = on_device(ssd_arguments(length=37 if INTERPRETED else 700))
    first, second = (
        run_with_gradients(ssd, arguments, torch.float32, delta_softplus=True, impl="triton")
        for _ in range(2)
    )
    assert all(torch.equal(x, second[name]) for name, x in first.items())


def test_extreme_steps_stay_finite() -> None:
    arguments = ssd_arguments(1, 40)
    arguments["delta"][:, ::3] = -60.0
    arguments["delta"][:, 1::3] = 300.0
    compare(arguments, torch.float32, delta_softplus=True)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cut_anywhere_equals_the_whole(reverse: bool) -> None:
    arguments = on_device({name: x.float() for name, x in ssd_arguments(length=37).items()})
    initial = arguments.pop("initial_state")
    options = {"delta_softplus": True, "reverse": reverse, "impl": "triton", "return_final_state": True}
    whole, final = ssd(**arguments, initial_state=initial, **options)
    for cut in (1, 16, 20):
        parts = [slice(0, cut), slice(cut, 37)]
        state, pieces = initial, []
        for part in reversed(parts) if reverse else parts:
            y, state = ssd(**steps_of(arguments, part), initial_state=state, **options)
            pieces.append(y)
        y = torch.cat(pieces[::-1] if reverse else pieces, dim=1)
        torch.testing.assert_close(y, whole, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(state, final, rtol=1e-4, atol=1e-4)


def test_mixed_dtypes_and_strided_views() -> None:
    a = on_device({name: x.float() for name, x in ssd_arguments(groups=1).items()})
    x, z = torch.cat([a["x"], a["z"]], dim=-1).to(torch.bfloat16).chunk(2, dim=-1)
    B = a["B"][:1].expand(2, -1, -1, -1)
    delta = a["delta"].transpose(1, 2).contiguous().transpose(1, 2)
    given = a | {"x": x, "z": z, "B": B, "delta": delta, "C": a["C"].mT.contiguous().mT}
    y = ssd(**given, delta_softplus=True, impl="triton")
    wanted = ssd(**{name: t.double() for name, t in given.items()}, delta_softplus=True, impl="chunked")
    assert_all_close({"y": y}, {"y": wanted}, ROUNDING[torch.bfloat16])


def _operands(every: bool) -> tuple[Any, ...]:
    small = {"batch": 1, "length": 18, "heads": 2, "groups": 1}
    a = on_device({name: x.float() for name, x in ssd_arguments(**small, every=every).items()})
    names = ("x", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
    return tuple(a.get(name) for name in names)


@pytest.mark.parametrize("every", [False, True])
def test_the_registered_operators_pass_opcheck(every: bool) -> None:
    operands, reset = _operands(every), some_resets(1, 18).to(DEVICE) if every else None
    operators = torch.ops.seqmamba
    torch.library.opcheck(operators.ssd_forward, (*operands, reset, True, every))
    y, final = operators.ssd_forward(*operands, reset, True, every)
    given = final if every else None
    torch.library.opcheck(operators.ssd_backward, (y, given, *operands, reset, True, every))
    step = [x[:, 0] if x is not None and x.ndim > 2 else x for x in operands[:8]]
    step[5] = operands[5]
    torch.library.opcheck(operators.ssd_step, (final, *step, True))


def test_it_compiles_into_one_graph_for_every_length() -> None:
    def model(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        y, final = ssd(x, delta, A, B, C, z=-x, delta_softplus=True, return_final_state=True, impl="triton")
        return y.sum() + final.sum()

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (20, 37):
        a = [x.float().to(DEVICE) for x in ssd_arguments(1, length, 2, every=False).values()]
        leaves, wanted = ([x.clone().requires_grad_() for x in a] for _ in range(2))
        compiled(*leaves).backward()
        model(*wanted).backward()
        for leaf, other in zip(leaves, wanted, strict=True):
            torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wide_skip", [False, True])
def test_the_step_is_one_kernel(dtype: torch.dtype, wide_skip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on_device({name: x.to(dtype) for name, x in ssd_arguments(length=1, wide_skip=wide_skip).items()})
    state = a.pop("initial_state").float()
    step = {name: x if name in ("A", "D", "delta_bias") else x[:, 0] for name, x in a.items()}
    calls: list[int] = []
    launch = registration.ssd_step_triton
    monkeypatch.setattr(step_module, "ssd_step_triton", lambda *given: (calls.append(1), launch(*given))[1])
    y, after = ssd_state_step(state, **step, delta_softplus=True)
    assert calls == [1]
    double = {name: x.double() for name, x in step.items()}
    wanted, wanted_after = ssd_state_step(state.double().requires_grad_(), **double, delta_softplus=True)
    assert_all_close({"y": y}, {"y": wanted.detach()}, ROUNDING[dtype])
    assert_all_close({"state": after}, {"state": wanted_after.detach()}, 4e-6)


@pytest.mark.parametrize("rate", [-200.0, LARGEST_LOG_RATE])
def test_the_slowest_and_the_fastest_decay_stay_finite(rate: float) -> None:
    arguments = ssd_arguments(length=37)
    arguments["A"] = decay_rate(torch.full_like(arguments["A"], rate))
    arguments["delta"] = torch.linspace(-80, 1e4, arguments["delta"].numel()).view_as(arguments["delta"])
    arguments = on_device(arguments)
    found = run_with_gradients(ssd, arguments, torch.float32, impl="triton", delta_softplus=True)
    assert all(x.isfinite().all() for x in found.values())


def test_the_step_takes_the_logarithm_of_the_decay_rate() -> None:
    a = on_device({name: x.float() for name, x in ssd_arguments(length=1).items()})
    state = a.pop("initial_state")
    step = {name: x if name in ("A", "D", "delta_bias") else x[:, 0] for name, x in a.items()}
    step["A"] = torch.linspace(-20, 60, len(step["A"]), device=DEVICE)
    wanted = ssd_state_step(state, **step | {"A": decay_rate(step["A"])}, delta_softplus=True)
    torch.testing.assert_close(ssd_state_step(state, **step, delta_softplus=True, A_is_log=True), wanted)


def test_a_second_derivative_is_refused() -> None:
    arguments = on_device({name: x.float().requires_grad_() for name, x in ssd_arguments().items()})
    with pytest.raises(UserError, match="no second derivative"):
        torch.autograd.grad(
            ssd(**arguments, delta_softplus=True, impl="triton").sum(), arguments["x"], create_graph=True
        )


@on_a_gpu_only
def test_past_two_to_the_31_elements() -> None:
    """The last steps of a row of 2^32 values, against the same steps alone, from the state before them."""
    heads, head_dim, n_state, length, tail = 64, 64, 16, 2**20 + 100, 300
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16, generator=generator)

    whole = {
        "x": normal(1, length, heads, head_dim),
        "delta": normal(1, length, heads),
        "A": -torch.rand(heads, device="cuda") - 0.5,
        "B": normal(1, length, 1, n_state),
        "C": normal(1, length, 1, n_state),
    }
    options = {"delta_softplus": True, "impl": "triton"}
    part = {name: x if name == "A" else x[:, -tail:].clone() for name, x in whole.items()}
    whole["x"].requires_grad_()
    part["x"].requires_grad_()
    y = ssd(**whole, **options)
    (grad,) = torch.autograd.grad(y[:, -tail // 2 :].float().sum(), whole["x"])
    alone = ssd(**part, **options)
    (grad_alone,) = torch.autograd.grad(alone[:, -tail // 2 :].float().sum(), part["x"])
    # at these decays nothing is left of the state after half of the part
    half = tail // 2
    assert_all_close({"y": y[:, -half:]}, {"y": alone[:, -half:]}, 8e-3)
    assert_all_close({"x": grad[:, -half:]}, {"x": grad_alone[:, -half:]}, 8e-3)
    assert not grad[:, : -4 * tail].any()


@on_a_gpu_only
def test_it_can_be_captured_in_a_cuda_graph() -> None:
    arguments = on_device({name: x.float() for name, x in ssd_arguments(length=300).items()})
    wanted = ssd(**arguments, delta_softplus=True, impl="triton")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ssd(**arguments, delta_softplus=True, impl="triton")
    y.zero_()
    graph.replay()
    assert torch.equal(y, wanted)
